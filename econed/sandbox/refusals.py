"""oned's refusals, which have a code and a text, and the XML-RPC faults of malformed calls."""

from __future__ import annotations

from xmlrpc.client import Fault

from econed.errors import OpenNebulaCode


class Refused(Exception):
    """oned replies `[false, text, code, object_id, -1]`. `Oned` adds the name of the method to `text`.

    `code` is one of oned's error codes; `object_id` is -1 if oned does not say which object it is about.
    """

    def __init__(self, code: OpenNebulaCode, text: str, object_id: int = -1) -> None:
        super().__init__(code, text, object_id)
        self.code = code
        self.text = text
        self.object_id = object_id


def no_such(kind: str, object_id: int) -> Refused:
    """Return the refusal for an object that does not exist; `kind` is the long name of its kind."""
    return Refused(OpenNebulaCode.NO_EXISTS, f"Error getting {kind} [{object_id}].", object_id)


def wrong_state(text: str) -> Refused:
    """Return the refusal of an action that the object's state does not allow."""
    return Refused(OpenNebulaCode.ACTION, text)


def internal(text: str) -> Refused:
    """Return the refusal of invalid or duplicate attributes, and of addresses that are not free."""
    return Refused(OpenNebulaCode.INTERNAL, text)


def bad_call(text: str) -> Refused:
    """Return the refusal of a parameter whose value the method does not know."""
    return Refused(OpenNebulaCode.XML_RPC_API, text)


def not_allocated(text: str) -> Refused:
    """Return the refusal to allocate an object."""
    return Refused(OpenNebulaCode.ALLOCATE, text)


def unauthorized(text: str) -> Refused:
    """Return the refusal for a missing right or an exceeded quota."""
    return Refused(OpenNebulaCode.AUTHORIZATION, text)


def wrong_parameter(text: str) -> Fault:
    """Return the fault for a missing parameter, or a parameter of the wrong type (xmlrpc-c: -501)."""
    return Fault(-501, text)


def unknown_method(method: str) -> Fault:
    """Return the fault for a method that oned does not have (xmlrpc-c: -506)."""
    return Fault(-506, f"Method '{method}' not defined")


def unparsable() -> Fault:
    """Return the fault for a call that oned's XML parser cannot parse (xmlrpc-c: -503)."""
    return Fault(-503, "Call is not valid XML.  XML parsing failed")


def did_not_complete() -> Fault:
    """Return the fault of 5.12 for an exception in its own code (xmlrpc-c: -500)."""
    return Fault(-500, "Unexpected error executing code for particular method.  It did not complete at all.")
