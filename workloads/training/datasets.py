"""Data that real runs train on: the digits that ship with scikit-learn, or what a user's function returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from simulator.errors import TrainwattError, first_line, unknown
from workloads.callables import import_callable

DIGITS = "digits"
TEST_SHARE = 0.2
SPLIT_SEED = 0
FORM = "give (x_train, y_train, x_test, y_test) with samples x (N, ...) and class numbers y (N,) or (N, H, W)"


@dataclass(frozen=True)
class Dataset:
    """Samples with their classes, for training and for testing.

    Inputs are float tensors (N, *sample), targets int64 tensors of class numbers from 0 to `classes` - 1: (N,), or
    (N, H, W) for one class a pixel. Raises `TrainwattError` on construction where that is not so.
    """

    name: str
    train_inputs: torch.Tensor
    train_targets: torch.Tensor
    test_inputs: torch.Tensor
    test_targets: torch.Tensor
    classes: int

    def __post_init__(self) -> None:
        for part, x, y in (
            ("training", self.train_inputs, self.train_targets),
            ("test", self.test_inputs, self.test_targets),
        ):
            what = f"dataset {self.name!r} with"
            if x.dim() < 2 or len(x) != len(y) or not len(x):
                raise TrainwattError(f"{what} {part} inputs {_shape(x)} and targets {_shape(y)}; {FORM}")
            if not x.is_floating_point() or y.dtype != torch.int64:
                raise TrainwattError(f"{what} {part} inputs of {x.dtype} and targets of {y.dtype}; {FORM}")
            if not bool(torch.isfinite(x).all()):
                raise TrainwattError(f"{what} {part} inputs that are not finite; leave such samples out")
            if int(y.min()) < 0 or int(y.max()) >= self.classes:
                found = f"{int(y.min())} to {int(y.max())}"
                raise TrainwattError(f"{what} {part} targets {found}; classes count from 0 to {self.classes - 1}")
        if self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            train, test = _shape(self.train_inputs), _shape(self.test_inputs)
            raise TrainwattError(f"{what} training inputs {train} and test inputs {test}; samples have one shape")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train_inputs.shape[1:])


def dataset_from(text: str, input_shape: tuple[int, ...]) -> Dataset:
    """Return the dataset `digits`, or what `package.module:callable` returns.

    The digits are made to `input_shape` (channels, height, width). The callable takes no arguments and returns a
    `Dataset`, or training inputs, training targets, test inputs, test targets as arrays or tensors; its samples keep
    their shape. Raises `TrainwattError` for anything else.
    """
    if ":" in text:
        return _of_user(text)
    if text != DIGITS:
        raise unknown("dataset", text, [DIGITS], f"there is {DIGITS!r}, or give package.module:callable")
    return _digits(input_shape)


def _digits(input_shape: tuple[int, ...]) -> Dataset:
    """Return the 1797 images of 8x8 pixels, scaled bilinearly and repeated in every channel.

    Test of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), as scikit-learn ships
    it. A fifth is held out, with the same share of each digit; pixels are shifted and scaled to mean 0 and standard
    deviation 1 over the training images.
    """
    if len(input_shape) != 3:
        shape = "x".join(map(str, input_shape))
        raise TrainwattError(f"dataset 'digits' for inputs of {shape}; digits are images, give a dataset of your own")
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise TrainwattError("no scikit-learn for dataset 'digits'; install scikit-learn") from None
    pixels, digits = load_digits(return_X_y=True)
    split = train_test_split(pixels, digits, test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=digits)
    train_x, test_x = (torch.as_tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) for x in split[:2])
    train_y, test_y = (torch.as_tensor(y, dtype=torch.int64) for y in split[2:])
    mean, deviation = train_x.mean(), train_x.std()

    def fitted(images: torch.Tensor) -> torch.Tensor:
        channels, height, width = input_shape
        scaled = F.interpolate((images - mean) / deviation, size=(height, width), mode="bilinear", antialias=True)
        return scaled.repeat(1, channels, 1, 1)

    return Dataset(DIGITS, fitted(train_x), train_y, fitted(test_x), test_y, classes=10)


def _of_user(text: str) -> Dataset:
    function = import_callable(text)
    try:
        made = function()
    except Exception as error:  # a user's code, which may fail in any way
        raise TrainwattError(f"cannot make dataset {text!r}: {first_line(error)}; {FORM}") from error
    if isinstance(made, Dataset):
        return made
    if not isinstance(made, tuple | list) or len(made) != 4:
        count = f" of {len(made)}" if isinstance(made, tuple | list) else ""
        raise TrainwattError(f"dataset {text!r} returned a {type(made).__name__}{count}; {FORM}")
    train_x, train_y, test_x, test_y = (
        _tensor(value, dtype, text) for value, dtype in zip(made, [torch.float32, torch.int64] * 2, strict=True)
    )
    largest = [int(y.max()) for y in (train_y, test_y) if y.numel()]
    return Dataset(text, train_x, train_y, test_x, test_y, classes=1 + max(largest, default=0))


def _tensor(value: Any, dtype: torch.dtype, text: str) -> torch.Tensor:
    try:
        found = torch.as_tensor(value)
    except Exception as error:  # an array of objects, a ragged list
        raise TrainwattError(f"dataset {text!r} holds no array of numbers ({first_line(error)}); {FORM}") from error
    if dtype == torch.int64 and not bool((found == found.to(torch.int64)).all()):
        raise TrainwattError(f"dataset {text!r} has targets of {found.dtype} that are no whole numbers; {FORM}")
    return found.to(dtype)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "of one number"
