"""The compiled helper of the hot path: built where there is a compiler, done without where there is none."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "broker._native",
            [f"broker/compiled/{part}.c" for part in ("module", "walk", "cards", "planes", "stamp", "alert")],
            depends=["broker/compiled/parts.h", "broker/compiled/cards.h"],
            extra_compile_args=["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"],
            optional=True,
        )
    ]
)
