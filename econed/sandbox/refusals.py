"""How oned says no: refusals with a code and a text, and the XML-RPC faults of malformed calls."""

from __future__ import annotations

from xmlrpc.client import Fault

from econed.errors import OpenNebulaCode


class Refused(Exception):
    """oned answers `[false, text, code, id, -1]`. The method's name is put before `text` by `Oned`.

    `code` is one of oned's error codes; `id` the object's number where oned names it, else -1.
    """

    def __init__(self, code: OpenNebulaCode, text: str, number: int = -1) -> None:
        super().__init__(code, text, number)
        self.code = code
        self.text = text
        self.number = number


def no_such(called: str, number: int) -> Refused:
    """Return the refusal for an object that does not exist; `called` is oned's name of its kind."""
    return Refused(OpenNebulaCode.NO_EXISTS, f"Error getting {called} [{number}].", number)


def wrong_state(text: str) -> Refused:
    """Return the refusal of an action that the object's state does not allow."""
    return Refused(OpenNebulaCode.ACTION, text)


def internal(text: str) -> Refused:
    """Return oned's refusal of bad or duplicate attributes, and of addresses that are not free."""
    return Refused(OpenNebulaCode.INTERNAL, text)


def bad_call(text: str) -> Refused:
    """Return the refusal of a call with a parameter that no such call can have."""
    return Refused(OpenNebulaCode.XML_RPC_API, text)


def not_allocated(text: str) -> Refused:
    """Return the refusal to make an object."""
    return Refused(OpenNebulaCode.ALLOCATE, text)


def unauthorized(text: str) -> Refused:
    """Return the refusal for want of a right, or of quota."""
    return Refused(OpenNebulaCode.AUTHORIZATION, text)


def wrong_parameter(text: str) -> Fault:
    """Return the fault of a missing or mistyped parameter (xmlrpc-c: -501)."""
    return Fault(-501, text)


def unknown_method(method: str) -> Fault:
    """Return the fault of a method that oned does not have (xmlrpc-c: -506)."""
    return Fault(-506, f"Method '{method}' not defined")


def unparsable() -> Fault:
    """Return the fault of a call that is not well-formed for oned's XML parser (xmlrpc-c: -503)."""
    return Fault(-503, "Call is not valid XML.  XML parsing failed")


def did_not_complete() -> Fault:
    """Return the fault by which 5.12 answers where its own code breaks off (xmlrpc-c: -500)."""
    return Fault(-500, "Unexpected error executing code for particular method.  It did not complete at all.")
