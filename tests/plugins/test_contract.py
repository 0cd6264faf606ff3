"""Every registered plugin keeps the contract of its interface."""

import pytest

from its import registry
from its.testing import check_plugin

registry.load_plugins()


@pytest.mark.parametrize("cls", registry.classes().values(), ids=registry.classes())
def test_registered_plugin_keeps_its_contract(cls, tmp_path):
    check_plugin(cls, tmp_path)


def test_first_party_experts_are_registered_and_nothing_failed():
    assert registry.failures() == {}
    assert {"StableDiffusion", "Auffusion", "Riffusion"} <= set(registry.classes("NoiseExpert"))
    assert set(registry.classes("LatentCodec")) >= {"AutoencoderKLCodec"}
