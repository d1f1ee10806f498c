"""Upper optimisers against PyTorch's and optax's, on gradients that span what hyper-cleaning gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.optimisers import EPS, MEAN, MOMENTUM, OPTIMISERS, SCHEDULES, SQUARE, Moments

RATE, STEPS = 0.03, 40


def _gradients() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(STEPS, 3, 6)) * 10.0 ** rng.integers(-10, 1, (STEPS, 3, 6))


def _ours(name: str) -> np.ndarray:
    lam = np.ones((3, 6))
    moments, path = Moments(0 * lam, 0 * lam), []
    for tau, h in enumerate(_gradients()):
        d, moments = OPTIMISERS[name](h, moments, tau)
        lam = lam - RATE * d
        path.append(lam)
    return np.stack(path)


def _torch(name: str) -> np.ndarray:
    torch = pytest.importorskip("torch")  # one framework alone is a supported installation
    lam = torch.ones((3, 6), dtype=torch.float64, requires_grad=True)
    rule = {
        "gd": lambda: torch.optim.SGD([lam], RATE),
        "momentum": lambda: torch.optim.SGD([lam], RATE, momentum=MOMENTUM),
        "adam": lambda: torch.optim.Adam([lam], RATE, (MEAN, SQUARE), EPS),
    }[name]()
    path = []
    for h in _gradients():
        lam.grad = torch.as_tensor(h)
        rule.step()
        path.append(lam.detach().numpy().copy())
    return np.stack(path)


def _optax(name: str) -> np.ndarray:
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")  # torch alone is supported, too
    jax.config.update("jax_enable_x64", True)
    rule = {
        "gd": lambda: optax.sgd(RATE),
        "momentum": lambda: optax.sgd(RATE, momentum=MOMENTUM),
        "adam": lambda: optax.adam(RATE, MEAN, SQUARE, EPS),
    }[name]()
    lam, path = jax.numpy.ones((3, 6)), []
    state = rule.init(lam)
    for h in _gradients():
        updates, state = rule.update(jax.numpy.asarray(h), state)
        lam = optax.apply_updates(lam, updates)
        path.append(np.asarray(lam))
    return np.stack(path)


@pytest.mark.parametrize("theirs", [_torch, _optax], ids=["torch.optim", "optax"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_path_is_the_libraries_own(name, theirs):
    assert np.abs(_ours(name) - theirs(name)).max() < 1e-12


def test_adam_s_eps_is_felt():
    """Where gradients are of its size the step is shorter than the rate."""
    h = np.full((1, 1), 1e-8)
    d, _ = OPTIMISERS["adam"](h, Moments(0 * h, 0 * h), 0)
    assert d == pytest.approx(0.5)


def test_schedules():
    assert [SCHEDULES["constant"](tau, 9) for tau in (0, 9)] == [1.0, 1.0]
    assert SCHEDULES["sqrt"](8, 9) == pytest.approx(1 / 3)
    assert [SCHEDULES["cosine"](tau, 10) for tau in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])
    assert SCHEDULES["cosine"](1, 10) == pytest.approx((1 + math.cos(math.pi / 10)) / 2)
