"""The compiled helper of the hot path: built where there is a compiler, done without where there is none."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "broker._native",
            ["broker/_native.c"],
            extra_compile_args=["-O3", "-ffp-contract=off", "-Wall", "-Wextra"],
            optional=True,
        )
    ]
)
