"""Small sets exactly as tensorflow-datasets prepares them, as array_record."""

import json

MODULES = {
    "mnist": "tensorflow_datasets.image_classification.mnist",
    "imagenet2012": "tensorflow_datasets.datasets.imagenet2012.imagenet2012_dataset_builder",
}


def write(root, builder, version, splits, shape, classes):
    """Write examples by split, each a dict of image bytes, a label and maybe a file_name."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    folder = root / builder / version
    folder.mkdir(parents=True)
    described = []
    for split, examples in splits.items():
        name = f"{builder}-{split}.array_record-00000-of-00001"
        writer, length = ArrayRecordWriter(str(folder / name), "group_size:1"), 0
        for values in examples:
            example = tf_example_pb2.Example()
            for key, value in values.items():
                feature = example.features.feature[key]
                if isinstance(value, int):
                    feature.int64_list.value.append(value)
                else:
                    feature.bytes_list.value.append(value)
            record = example.SerializeToString()
            length += len(record)
            writer.write(record)
        writer.close()
        described.append(
            {
                "name": split,
                "shardLengths": [str(len(examples))],
                "numBytes": str(length),
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {
        "name": builder,
        "version": version,
        "fileFormat": "array_record",
        "moduleName": MODULES[builder],
        "splits": described,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    kind = "tensorflow_datasets.core.features."
    image = {"dtype": "uint8", "encodingFormat": "png" if shape else "jpeg"}
    dimensions = [str(side) for side in shape or (-1, -1, 3)]
    features = {
        "image": {
            "pythonClassName": f"{kind}image_feature.Image",
            "image": {"shape": {"dimensions": dimensions}, **image},
        },
        "label": {
            "pythonClassName": f"{kind}class_label_feature.ClassLabel",
            "classLabel": {"numClasses": str(classes)},
        },
    }
    if any("file_name" in example for examples in splits.values() for example in examples):
        features["file_name"] = {"pythonClassName": f"{kind}text_feature.Text", "text": {}}
    described = {
        "pythonClassName": f"{kind}features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(described))
