import importlib

import numpy as np
import pytest
import xplique.attributions
import xplique.commons

import xplique_forgrad

FORGRAD_MODULE = importlib.import_module("xplique.commons.forgrad")


@pytest.fixture(autouse=True)
def registered():
    yield
    xplique_forgrad.unregister()
    xplique_forgrad.register()


def names():
    modules = (xplique.attributions, xplique.commons, FORGRAD_MODULE)
    return [(dict(vars(module)), list(getattr(module, "__all__", []))) for module in modules]


def test_import_adds_the_explainer_and_replaces_nothing():
    from xplique.attributions import FORGrad

    assert FORGrad is xplique_forgrad.FORGrad
    assert "FORGrad" in xplique.attributions.__all__
    assert xplique.commons.forgrad is not xplique_forgrad.forgrad
    assert xplique.commons.forgrad is FORGRAD_MODULE.forgrad


def test_replace_puts_our_function_in_every_place_of_xplique():
    xplique_forgrad.register(replace=True)
    assert xplique.commons.forgrad is xplique_forgrad.forgrad
    assert FORGRAD_MODULE.forgrad is xplique_forgrad.forgrad
    assert xplique.commons.forgrad(np.zeros((1, 7, 9)), sigma=3).shape == (1, 7, 9)


def test_registering_again_changes_nothing():
    for replace in (False, True):
        xplique_forgrad.register(replace)
        before = names()
        xplique_forgrad.register(replace)
        xplique_forgrad.register()
        assert names() == before
    assert xplique.attributions.__all__.count("FORGrad") == 1


def test_unregister_restores_xplique_entirely():
    xplique_forgrad.unregister()
    pristine = names()
    assert not hasattr(xplique.attributions, "FORGrad")
    assert "FORGrad" not in xplique.attributions.__all__
    xplique_forgrad.register()
    xplique_forgrad.register(replace=True)
    xplique_forgrad.unregister()
    assert names() == pristine
    xplique_forgrad.unregister()
    assert names() == pristine


def test_a_name_that_xplique_has_is_left_alone(monkeypatch):
    xplique_forgrad.unregister()
    theirs = object()
    monkeypatch.setattr(xplique.attributions, "FORGrad", theirs, raising=False)
    xplique_forgrad.register()
    assert xplique.attributions.FORGrad is theirs
    xplique_forgrad.unregister()
    assert xplique.attributions.FORGrad is theirs


def test_what_others_set_since_is_left_alone():
    original, theirs = xplique.commons.forgrad, object()
    xplique_forgrad.register(replace=True)
    xplique.commons.forgrad = xplique.attributions.FORGrad = theirs
    try:
        xplique_forgrad.unregister()
        assert xplique.commons.forgrad is theirs
        assert xplique.attributions.FORGrad is theirs
        assert FORGRAD_MODULE.forgrad is original
    finally:
        xplique.commons.forgrad = original
        del xplique.attributions.FORGrad
        xplique.attributions.__all__.remove("FORGrad")


def test_a_name_that_was_deleted_can_be_registered_again():
    del xplique.attributions.FORGrad
    xplique_forgrad.unregister()
    assert "FORGrad" not in xplique.attributions.__all__
    xplique_forgrad.register()
    assert xplique.attributions.__all__.count("FORGrad") == 1
