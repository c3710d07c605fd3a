"""TensorFlow Lite Metadata's tables and the names of their fields, in the order of their slots.

Source: metadata_schema.fbs 1.1.0 of tensorflow/tflite-support. Only what kd2mobile reads or writes is listed, up to the
last such field of a table; a union takes two slots, its type and its value.
"""

ENTRY = "TFLITE_METADATA"
"""The name of the model's metadata entry whose buffer holds the flatbuffer."""
IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"
"""The first version of the schema that has every field written here."""

FIELDS = {
    "ModelMetadata": (
        "name",
        "description",
        "version",
        "subgraph_metadata",
        "author",
        "license",
        "associated_files",
        "min_parser_version",
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        "name",
        "description",
        "dimension_names",
        "content",
        "process_units",
        "stats",
        "associated_files",
    ),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space", "default_size"),
    "ImageSize": ("width", "height"),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "AssociatedFile": ("name", "description", "type"),
}
SCALARS = {
    "content_properties_type": "B",
    "options_type": "B",
    "color_space": "b",
    "type": "b",
    "width": "I",
    "height": "I",
}
"""The fields that are numbers, by their struct codes."""

FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2
"""Members of the union ContentProperties."""
NORMALIZATION_OPTIONS = 1
"""Member of the union ProcessUnitOptions."""
RGB = 1
"""Of the enum ColorSpaceType."""
TENSOR_AXIS_LABELS = 2
"""Of the enum AssociatedFileType: a label per line for each index along the tensor's axis."""


def slot(table: str, field: str) -> int:
    """The slot of a field in its table, from 0.

    >>> slot("TensorMetadata", "process_units")
    4
    """
    return FIELDS[table].index(field)
