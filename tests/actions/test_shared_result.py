"""What requests make of a document that they share is made once."""

from __future__ import annotations

from lxml import etree

from econed.actions.shared_result import SharedResult
from econed.opennebula.documents import VirtualNetwork

DOCUMENT = "<VNET><ID>3</ID><NAME>elastic</NAME></VNET>"


def test_the_result_is_made_once_for_all_views_of_one_document() -> None:
    shared, made = SharedResult(), list[VirtualNetwork]()
    element = etree.fromstring(DOCUMENT)
    views = [VirtualNetwork(element) for _ in range(3)]

    def make(network: VirtualNetwork) -> str:
        made.append(network)
        return network.name

    assert [shared.of(view, make) for view in views] == ["elastic"] * 3
    assert made == views[:1]


def test_the_result_of_another_document_is_made_again_even_if_it_is_equal() -> None:
    shared = SharedResult()
    networks = [VirtualNetwork(etree.fromstring(DOCUMENT)) for _ in range(2)]
    assert [shared.of(network, lambda network: network) for network in networks] == networks
