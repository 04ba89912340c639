"""Print where a real ONNX network lies: the ResNet-50 that the onnx wheel carries for its tests."""

from pathlib import Path

import onnx

print(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx")
