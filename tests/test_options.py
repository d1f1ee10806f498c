"""Options and pairs that make no sense: refused in one line, before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

from backends.hypergradient import METHODS, InvalidOption, Unsupported
from tests.grid import CONVEX, GENERIC


@pytest.mark.parametrize("name", ["krmd", "cg", "neumann", "native-krmd", "native-cg", "native-neumann"])
@pytest.mark.parametrize("K", [-1, 1.5, "5", True, None])
def test_K_is_a_whole_number_from_0(name, K):
    with pytest.raises(InvalidOption, match=r"whole number from 0") as caught:
        METHODS[name](truncation=K)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["krmd", "neumann", "native-krmd", "native-neumann"])
def test_K_is_at_most_T(bk, name):
    problem, hparams, data, xs = CONVEX["away"].at(bk)
    with pytest.raises(InvalidOption, match=r"truncation = 13 is more than the horizon T = 12; allowed are 0 to 12"):
        METHODS[name](truncation=13)(bk, problem, hparams, data, xs)


@pytest.mark.parametrize("name", ["rmd", "krmd"])
def test_stash_is_known(name):
    options = {"truncation": 1} if name == "krmd" else {}
    with pytest.raises(InvalidOption, match="allowed are iterates and residuals"):
        METHODS[name](stash="everything", **options)


@pytest.mark.parametrize("chunk", [0, -3, 2.0])
def test_chunk_is_a_whole_number_from_1(chunk):
    with pytest.raises(InvalidOption, match="whole number from 1"):
        METHODS["fmd"](chunk=chunk)


@pytest.mark.parametrize("name", ["cg", "native-cg"])
def test_cg_needs_an_inner_loss(bk, name):
    problem, *_ = GENERIC["M < N"].at(bk)
    with pytest.raises(Unsupported, match="no inner_loss"):
        METHODS[name](truncation=1).check(problem, 6)


def test_T_needs_per_step_inputs(bk):
    problem, hparams, data, _ = CONVEX["away"].at(bk)
    with pytest.raises(InvalidOption, match="xs has no arrays"):
        METHODS["rmd"]()(bk, problem, hparams, data, None)


def test_one_step_and_no_pull_back(bk):
    """The smallest sizes: T = 1, K = 0 is the direct term."""
    problem, hparams, data, xs = CONVEX["away"].at(bk)
    h = METHODS["krmd"](truncation=0)(bk, problem, hparams, data, xs[:1]).grad
    theta = np.tanh(CONVEX["away"].hparams)
    assert np.allclose(bk.to_numpy(h), 3 * theta**2 * (1 - theta**2), rtol=1e-13)
