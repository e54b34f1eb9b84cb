"""An image encoder as one ONNX file: the checkpoint's numbers for any size of image, without torch; bad files told."""

import subprocess
import sys

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from broker.errors import ModelRefused
from encoder import cli
from encoder.images.archive import ImageSet, Kind, load_images, save_images
from encoder.images.config import ImageNetworkConfig, ImagePretrainConfig
from encoder.images.features import embedder
from encoder.images.served import KEY, ServedImageEncoder
from encoder.images.task import pretrain_images

pytestmark = pytest.mark.train

RNG = np.random.default_rng(8)


def flux_images(count, side):
    noise = RNG.uniform(5, 20, (count, 5)).astype(np.float32)
    noise[::7, 2] = np.nan  # a band that was not seen
    pixels = RNG.normal(0, 1, (count, 5, side, side)) * np.nan_to_num(noise, nan=1.0)[..., None, None]
    pixels[:, :, side // 2, side // 2] += 500
    return ImageSet.of(
        pixels.astype(np.float32),
        kind=Kind.FLUX,
        bands=("u", "g", "r", "i", "z"),
        noise=noise,
        ebv=RNG.uniform(0, 0.3, count),
    )


def pictures(count, side):
    pixels = RNG.integers(0, 255, (count, 3, side, side + 4)).astype(np.uint8)
    return ImageSet.of(pixels, kind=Kind.DISPLAY, bands=("red", "green", "blue"))


MAKE = {Kind.FLUX: flux_images, Kind.DISPLAY: pictures}


@pytest.fixture(scope="module", params=Kind)
def trained(request, tmp_path_factory):
    """A checkpoint of each kind, and the ONNX file made of it by the command."""
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    images = MAKE[kind](80, 24)
    network = ImageNetworkConfig(
        kind=kind, bands=len(images.bands), size=20, field=16, widths=(8, 16), blocks=1, embedding_size=8
    )
    config = ImagePretrainConfig(network=network, epochs=1, batch_size=32, queue=16)
    pretrain_images(config, images, folder / "run")
    checkpoint, path = folder / "run" / "last.pt", folder / "encoder.onnx"
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["--checkpoint", str(checkpoint), "--output", str(path)]
        patch.setattr("sys.argv", ["encoder", "export", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    assert (stopped.value.code or 0) == 0
    return kind, checkpoint, path


@pytest.mark.parametrize(("count", "side"), [(5, 24), (1, 24), (3, 31), (4, 12)])
def test_torch_and_onnx_agree_for_any_size_of_image(trained, count, side):
    kind, checkpoint, path = trained
    images = MAKE[kind](count, side)
    wanted, found = embedder(checkpoint), embedder(path)
    assert found[1:] == wanted[1:], "kind, bands, size and digest are the checkpoint's"
    np.testing.assert_allclose(found.embed(images), wanted.embed(images), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found.embed(images), axis=1), 1, atol=1e-5)


def test_the_command_embeds_without_torch(trained, tmp_path):
    kind, _, path = trained
    images = MAKE[kind](9, 24)
    save_images(tmp_path / "galaxies.hdf5", images)
    output = tmp_path / "features.parquet"
    run = (
        "import sys; sys.modules['torch'] = None; from encoder import cli; "
        f"sys.argv = ['encoder', 'embed', {str(tmp_path / 'galaxies.hdf5')!r}, '--model', {str(path)!r}, "
        f"'--output', {str(output)!r}]; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(output)
    stored = load_images(tmp_path / "galaxies.hdf5")
    assert table["object_id"].to_pylist() == stored.object_id.tolist()
    found = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(found, embedder(path).embed(stored), atol=1e-6)


def test_files_that_are_none_are_refused_in_one_line(trained, tmp_path):
    _, _, path = trained
    with pytest.raises(ModelRefused, match="is no file"):
        ServedImageEncoder.load(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelRefused, match="is no ONNX file"):
        ServedImageEncoder.load(tmp_path / "text.onnx")
    graph = onnx.load(path)
    contract = graph.metadata_props[0].value
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "bare.onnx")
    with pytest.raises(ModelRefused, match="is not for images"):
        ServedImageEncoder.load(tmp_path / "bare.onnx")
    graph.metadata_props.add(key=KEY, value=contract.replace('"check":[', '"check":[7.0,'))
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(ModelRefused, match="does not compute"):
        ServedImageEncoder.load(tmp_path / "other.onnx")


def test_images_of_another_kind_are_refused(trained, tmp_path, monkeypatch, capfd):
    kind, _, path = trained
    other = Kind.DISPLAY if kind is Kind.FLUX else Kind.FLUX
    save_images(tmp_path / "other.hdf5", MAKE[other](4, 24))
    arguments = [
        "embed",
        str(tmp_path / "other.hdf5"),
        "--model",
        str(path),
        "--output",
        str(tmp_path / "x.npy"),
    ]
    monkeypatch.setattr("sys.argv", ["encoder", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert f"learned from {kind.value} images" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "x.npy").exists()


def test_export_wants_one_thing_to_export(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["encoder", "export", "--output", str(tmp_path / "x.onnx")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "--checkpoint" in capfd.readouterr().err
