"""The wire: frames, containers, datums in; enriched alerts and dead letters out."""
