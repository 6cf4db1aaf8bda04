"""A run's features for TensorBoard's projector, without TensorFlow."""

from pathlib import Path

import numpy as np

from jaxclust.core.visible import visible
from jaxclust.report.thumbnails import Draw, sprite
from jaxclust.runs.finished import FinishedRun

# The projector's largest sprite, and the largest image in it, in pixels a side.
_SPRITE, _SIDE = 8192, 48


def write_projector(run: FinishedRun, draw: Draw | None, folder: Path) -> None:
    """Features, names and images of a run's images for `tensorboard --logdir FOLDER`.

    Args:
        run: the finished run.
        draw: its images; None: points only.
        folder: created if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n = len(run.ids)
    _write_table(run, folder / "metadata.tsv")
    features = run.features.reshape(n, -1)
    lines = ("\t".join(f"{value:.6g}" for value in row) for row in features)
    (folder / "features.tsv").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    images = ""
    side = min(_SIDE, int(_SPRITE / np.ceil(np.sqrt(n))))
    if draw is not None and side >= 4:
        sprite(draw, np.arange(n), side).save(folder / "sprite.png")
        images = (
            f'  sprite {{ image_path: "sprite.png" single_image_dim: {side} '
            f"single_image_dim: {side} }}\n"
        )
    (folder / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "features"\n  tensor_path: "features.tsv"\n'
        f'  metadata_path: "metadata.tsv"\n{images}}}\n',
        "utf-8",
    )


def _write_table(run: FinishedRun, path: Path) -> None:
    """Write what is known about every image, with the column names as header."""
    columns = {"id": [visible(name) for name in run.ids], "cluster": run.clusters}
    columns["confidence"] = [f"{value:.4g}" for value in run.confidence]
    if run.labels is not None:
        columns["label"] = run.labels
    rows = zip(*columns.values(), strict=True)
    table = [tuple(columns), *rows]
    text = "".join("\t".join(map(str, row)) + "\n" for row in table)
    path.write_text(text, "utf-8")
