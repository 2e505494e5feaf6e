"""Decoding forms: the parameters of an action, or the error."""

from __future__ import annotations

from typing import Any

import pytest

from econed.errors import EC2Error
from econed.wire.model import Model
from econed.wire.parameters import decode
from econed.wire.query import parse_pairs


def decoded(model: Model, action: str, form: str, **options: Any) -> dict[str, Any]:
    """Return the parameters in a form."""
    operation = model.operation(action)
    assert operation is not None
    return decode(operation, parse_pairs(form.encode()), **options)


def refusal(model: Model, action: str, form: str) -> EC2Error:
    """Return the error for a form."""
    with pytest.raises(EC2Error) as caught:
        decoded(model, action, form)
    assert caught.value.status == 400
    return caught.value
