"""The programs: where everything is put together."""
