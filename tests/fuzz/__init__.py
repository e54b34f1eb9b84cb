"""Fuzzing: mutated packets through the whole pipeline, and what must hold whatever they are."""
