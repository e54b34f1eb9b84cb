"""``python -m encoder.cli``, as ``torchrun -m`` starts it."""

from encoder.cli.commands import main

if __name__ == "__main__":
    main()
