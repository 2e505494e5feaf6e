"""The cost of EC2's view of a machine, in counted steps."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.actions.instances.view import reservation_view
from econed.opennebula.documents import VirtualMachine
from tests.opennebula.reading import VERSIONS, recorded
from tests.support.counted_elements import counted

ATTRIBUTES = {
    "texts": "<A{0}>x</A{0}>",
    "tags": "<EC2_TAG_{0:04X}><KEY>{0}</KEY><VALUE>x</VALUE></EC2_TAG_{0:04X}>",
    "with the same name": "<SAME>{0}</SAME>",
}


def steps_to_view(version: str, attributes: str) -> int:
    """Return how many steps the view of a running machine with these additional user attributes takes."""
    documents = [root for root in recorded(version, "one.vm.info") if root.findtext("LCM_STATE") == "3"]
    text = etree.tostring(documents[0], encoding="unicode")
    root, steps = counted(text.replace("</USER_TEMPLATE>", f"{attributes}</USER_TEMPLATE>"))
    reservation_view(VirtualMachine(root), {}, 0)
    return steps.total


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("attribute", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_the_cost_of_a_machine_is_linear_in_the_attributes_that_its_user_wrote(version: str, attribute: str) -> None:
    few, many = ("".join(attribute.format(number) for number in range(count)) for count in (2500, 5000))
    of_few = steps_to_view(version, few)
    assert of_few >= 2500
    assert steps_to_view(version, many) <= 2.2 * of_few


@pytest.mark.parametrize("version", VERSIONS)
def test_a_machine_is_viewed_with_a_walk_over_each_of_its_elements(version: str) -> None:
    """Not with one for each attribute that is read."""
    documents = [root for root in recorded(version, "one.vm.info") if root.findtext("LCM_STATE") == "3"]
    root, steps = counted(etree.tostring(documents[0], encoding="unicode"))
    reservation_view(VirtualMachine(root), {}, 0)
    assert steps.walks == {tag: len(list(root.iter(tag))) for tag in steps.walks}
