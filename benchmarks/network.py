"""The network against the machine's own matrix product: what share of it ONNX Runtime reaches, by batch and threads.

Both are timed in turns within one run, on the same number of threads: a product of square float32 matrices by NumPy's
BLAS, and the packaged model on the stamps of real alerts. A multiply-accumulate of one is one of the other; what the
network does beside its convolutions (scaling, normalising, adding) is no work here, so it lowers the share.

    python benchmarks/network.py --data ../shared/data --batch 16 --batch 64 --batch 256 --threads 1 --threads 2
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

SIDE = 1024
"""Of the matrices: large enough for BLAS to be at its best, small enough for a cache of a few MB."""


def begin_with(threads: int) -> None:
    """Begin again with so many threads of BLAS, which are counted when it is loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    if any(os.environ.get(name) != str(threads) for name in names):
        os.execve(
            sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(names, str(threads))
        )


def rate(run: Callable[[], object], work: float, at_least: float = 0.5) -> float:
    """Work a second, by as many calls as take half a second."""
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < at_least:
        run()
        calls += 1
    return calls * work / (time.perf_counter() - began)


def measure(
    data: Path, batches: list[int], threads: int, rounds: int
) -> list[tuple[int, float, float, float]]:
    """Give for each batch: alerts a second, multiply-accumulates a second of the network, and of the product."""
    import numpy as np  # noqa: PLC0415 -- after the threads are set
    from without_network import network_inputs_of  # noqa: PLC0415

    from broker.inference import Model  # noqa: PLC0415

    packets = [path.read_bytes() for path in sorted((data / "lsst").rglob("*.avro"))[: max(batches)]]
    if not packets:
        raise SystemExit(f"no *.avro below {data / 'lsst'}: name a folder of real Rubin packets by --data")
    packets = (packets * (max(batches) // len(packets) + 1))[: max(batches)]
    model = Model.load(threads=threads, batch_size=max(batches))
    inputs = network_inputs_of(model, packets)
    assert len(inputs["survey"]) == max(batches), "packets that cannot be read are no work"
    one, other = (np.random.default_rng(n).normal(size=(SIDE, SIDE)).astype(np.float32) for n in (1, 2))
    found = []
    for batch in batches:
        part = {name: values[:batch] for name, values in inputs.items()}
        alerts, product = [], []
        for _ in range(rounds):
            product.append(rate(lambda: one @ other, SIDE**3))
            alerts.append(rate(lambda: model(part), batch))  # noqa: B023 -- called at once
        macs = statistics.median(alerts) * model.contract.mmac * 1e6
        found.append((batch, statistics.median(alerts), macs, statistics.median(product)))
    return found


def main(
    data: Annotated[
        Path, typer.Option(envvar="NIGHTJAR_DATA", help="Folder with lsst/, which holds real packets.")
    ] = Path("../shared/data"),
    batch: Annotated[list[int] | None, typer.Option(help="Alerts at once; may be given again.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of both.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="In which each is timed once.")] = 5,
) -> None:
    """Time the network and a matrix product side by side; one line a batch."""
    begin_with(threads)
    for size, alerts, macs, product in measure(data, batch or [16, 64, 256], threads, rounds):
        shares = f"{macs / 1e9:.1f} of {product / 1e9:.1f} GMAC/s: {macs / product:.0%}"
        print(f"threads {threads}, batch {size}: {alerts:,.0f} alerts/s, {shares}")


if __name__ == "__main__":
    typer.run(main)
