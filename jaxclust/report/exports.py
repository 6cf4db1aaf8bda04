"""A run in the formats of annotation tools and data frames."""

import importlib.util
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

import jaxclust
from jaxclust.core.errors import InputError
from jaxclust.report.pictures import Pictures, check_names
from jaxclust.report.text import shown
from jaxclust.runs.finished import FinishedRun

# Where Label Studio serves local files from.
LOCAL_FILES = "/data/local-files/?d="


def check_parquet() -> None:
    """InputError without the library that writes Parquet."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError("--as parquet needs pyarrow: pip install 'jaxclust[features]'")


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _names(run: FinishedRun) -> list[str]:
    """A name for every cluster, none twice."""
    names = [shown(run.name(cluster)) for cluster in range(run.n_clusters)]
    return [
        name if names.count(name) == 1 else f"{name} ({cluster})"
        for cluster, name in enumerate(names)
    ]


def _confidence(run: FinishedRun) -> list[float]:
    return [round(float(value), 6) for value in run.confidence]


def write_parquet(run: FinishedRun, folder: Path) -> None:
    """`clusters.parquet`: id, cluster, name, confidence, embedding, and label if known.

    Args:
        run: the finished run.
        folder: created if missing.
    """
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    flat = np.asarray(run.features, np.float32).reshape(len(run.ids), -1)
    names = _names(run)
    values = pa.array(flat.ravel())
    columns: dict[str, Any] = {
        # Parquet's text is UTF-8; bytes of a name that are not are shown as escapes.
        "id": [name.encode("utf-8", "backslashreplace").decode() for name in run.ids],
        "cluster": pa.array(run.clusters, pa.int32()),
        "name": [names[cluster] for cluster in run.clusters],
        "confidence": pa.array(run.confidence, pa.float32()),
        "embedding": pa.FixedSizeListArray.from_arrays(values, flat.shape[1]),
    }
    if run.labels is not None:
        columns["label"] = pa.array(run.labels, pa.int64())
    parquet.write_table(pa.table(columns), folder / "clusters.parquet")


def _written(run: FinishedRun, pictures: Pictures, folder: Path) -> list[Path]:
    """Every image at its name below a folder, or at its row if the name is not UTF-8."""
    check_names(run, folder)
    written = []
    for row, name in enumerate(run.ids):
        if name.encode("utf-8", "replace").decode() != name:
            name = f"{row}{Path(name).suffix}"
        written.append(pictures.put(row, folder / name))
    return written


def write_coco(run: FinishedRun, pictures: Pictures, folder: Path) -> None:
    """`coco/annotations.json` and `coco/images/`: a category per image, on a box around all of it.

    COCO's format has no image-level labels of its own; tools that read it expect the box.

    Args:
        run: the finished run.
        pictures: writes its images.
        folder: created if missing.
    """
    base = folder / "coco"
    images, annotations = [], []
    confidence = _confidence(run)
    for row, path in enumerate(_written(run, pictures, base / "images")):
        with Image.open(path) as picture:
            width, height = picture.size
        file_name = path.relative_to(base / "images").as_posix()
        images.append({"id": row + 1, "file_name": file_name, "width": width, "height": height})
        annotations.append(
            {
                "id": row + 1,
                "image_id": row + 1,
                "category_id": int(run.clusters[row]) + 1,
                "bbox": [0, 0, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": confidence[row],
            }
        )
    categories = [
        {"id": cluster + 1, "name": name, "supercategory": "cluster"}
        for cluster, name in enumerate(_names(run))
    ]
    about = {"description": f"clusters by jaxclust {jaxclust.__version__}", "version": "1.0"}
    content = {"info": about, "licenses": [], "images": images}
    content |= {"annotations": annotations, "categories": categories}
    _write_json(base / "annotations.json", content)


def write_label_studio(run: FinishedRun, pictures: Pictures, folder: Path, prefix: str) -> None:
    """`label_studio/tasks.json` with predictions, `config.xml` to import first, and `images/`.

    Args:
        run: the finished run.
        pictures: writes its images.
        folder: created if missing.
        prefix: of an image's address, before its path below `label_studio/`.
    """
    base, names = folder / "label_studio", _names(run)
    version = f"jaxclust {jaxclust.__version__} {run.summary['method']}"
    tasks = []
    confidence = _confidence(run)
    for row, path in enumerate(_written(run, pictures, base / "images")):
        place = quote(path.relative_to(base).as_posix())
        choice = {"choices": [names[run.clusters[row]]]}
        region = {"from_name": "cluster", "to_name": "image", "type": "choices", "value": choice}
        predicted = {"model_version": version, "score": confidence[row], "result": [region]}
        tasks.append({"data": {"image": f"{prefix}{place}"}, "predictions": [predicted]})
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in names)
    config = '<View>\n  <Image name="image" value="$image"/>\n  <Choices name="cluster" '
    config += f'toName="image">\n{choices}  </Choices>\n</View>\n'
    _write_json(base / "tasks.json", tasks)
    (base / "config.xml").write_text(config, "utf-8")


def write_fiftyone(run: FinishedRun, pictures: Pictures, folder: Path) -> None:
    """`fiftyone/`: FiftyOne's own image classification format, `data/` and `labels.json`.

    Args:
        run: the finished run.
        pictures: writes its images.
        folder: created if missing.
    """
    base, names = folder / "fiftyone", _names(run)
    labels, confidence = {}, _confidence(run)
    digits = len(str(len(run.ids) - 1))
    for row, name in enumerate(run.ids):
        # FiftyOne looks images up by their names without the ending, which may not be unique.
        key = f"{row:0{digits}d}"
        pictures.put(row, base / "data" / f"{key}{Path(name).suffix}")
        labels[key] = {"label": int(run.clusters[row]), "confidence": confidence[row]}
        labels[key]["attributes"] = {"id": shown(name)}
    _write_json(base / "labels.json", {"classes": names, "labels": labels})
