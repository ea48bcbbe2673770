"""When LightGBM stops: as its own early stopping, or by a mean of its last figures."""

import lightgbm
import numpy as np
import pytest
from lightgbm.callback import CallbackEnv, EarlyStopException

from stages.rank.rankers.lightgbm import _Stop


def stopped(curve: list[float], patience: int, smoothing: int) -> tuple[int, int]:
    """Feed a curve; return the best iteration and how many were looked at."""
    stop = _Stop(patience, smoothing)
    for iteration, figure in enumerate(curve):
        figures = [("valid_0", "ndcg@5", figure, True)]
        try:
            stop(CallbackEnv(None, {}, iteration, 0, len(curve), figures))
        except EarlyStopException as error:
            return error.best_iteration, iteration + 1
    raise AssertionError("it ended without a best iteration")


@pytest.mark.parametrize("patience", [3, 12, 500])
def test_over_one_figure_it_is_lightgbms_own(patience: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4000, 6))
    labels = (rows[:, 0] + rng.normal(size=4000) > 1).astype(int)

    def trained(callback: object) -> lightgbm.Booster:
        groups = {"group": [10] * 200}
        dataset = lightgbm.Dataset(rows[:2000], labels[:2000], **groups)
        valid = lightgbm.Dataset(rows[2000:], labels[2000:], reference=dataset, **groups)
        params = {"objective": "lambdarank", "metric": "ndcg", "eval_at": [5], "verbosity": -1}
        params |= {"seed": 1, "deterministic": True, "num_threads": 1, "learning_rate": 0.02}
        return lightgbm.train(params, dataset, 60, valid_sets=[valid], callbacks=[callback])

    own = trained(lightgbm.early_stopping(patience, verbose=False))
    ours = trained(_Stop(patience, 1))
    assert (ours.best_iteration, ours.num_trees()) == (own.best_iteration, own.num_trees())


def test_a_lucky_figure_does_not_stop_it() -> None:
    curve = [0.1 + 0.001 * n for n in range(40)]
    curve[3] = 0.5
    assert stopped(curve, 10, 1) == (3, 14)
    assert stopped(curve, 10, 5) == (7, 18)  # The last window that the lucky one is in.
    curve[3] = 0.15
    assert stopped(curve, 10, 1) == (3, 14)
    assert stopped(curve, 10, 10) == (39, 40)


def test_fewer_trees_than_a_mean_is_over_are_all_taken() -> None:
    assert stopped([0.1, 0.3, 0.2], 10, 5) == (2, 3)
