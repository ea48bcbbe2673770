"""Training the towers: batches drawn by row numbers alone, resumed from the newest epoch."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from stages.core.log import get_logger, progress
from stages.core.params import TwoTower
from stages.core.search import FlatIndex
from stages.core.storage import atomic_file
from stages.retrieve.retrievers.towers.bags import compact
from stages.retrieve.retrievers.towers.examples import Examples
from stages.retrieve.retrievers.towers.lesson import Lesson
from stages.retrieve.retrievers.towers.losses import (
    chosen_among,
    in_batch_loss,
    pointwise_loss,
    was_chosen,
)
from stages.retrieve.retrievers.towers.model import Towers, pooled

log = get_logger(__name__)

_NEAR = 50
"""Nearest items of which a hard negative is drawn."""
_HELD_OUT = 20
"""One user of so many is held out where training may stop early."""
_WARM = 0.05
"""Share of the steps over which the learning rate rises; over the rest it falls to nothing."""
_BLOCK = 8192
"""Items encoded at once."""
_JUDGED = 512
"""Events whose scores of all the window's items are held at once."""
_MOST_JUDGED = 10_000
"""Events of held-out users that are looked at."""


def train(
    lesson: Lesson, params: TwoTower, seed: int, device: str, checkpoints: Path
) -> tuple[Towers, list[dict[str, float]]]:
    """Train towers and return them, on the CPU, with the curve.

    Every epoch draws from a generator of its own, so that one that follows a kill is what it would
    have been. Checkpoints are taken up from and, once trained, removed.

    Args:
        lesson: what is learned, on the CPU.
        params: the retriever's.
        seed: decides weights, order and negatives.
        device: "cpu" or "cuda".
        checkpoints: a folder for checkpoints of any training.

    Returns:
        the towers, and a row an epoch of epoch, step (how many there were up to its end), loss and,
        where some users are held out, mrr: how well the towers rank these users' items. With
        `patience` the towers are those of the best.
    """
    folder = checkpoints / lesson.identity(params, seed)
    file = folder / "epoch.pt"
    towers = Towers(
        lesson.slots,
        [of_items.shape[1] for of_items in lesson.vectors],
        params.dim,
        params.hidden,
        lesson.unknown,
        lesson.ids.to(device) * params.id_dropout if params.id_dropout else None,
        seed,
    ).to(device)
    optimizer = torch.optim.AdamW(
        towers.parameters(), params.lr, weight_decay=params.weight_decay, fused=True
    )
    teacher = Teacher(lesson.to(device), towers, params)
    learned, held_out = _parts(lesson.examples, params, seed)
    learned, held_out = learned.to(device), held_out.to(device)
    steps = -(-len(learned) // params.batch_size)
    epochs = max(params.epochs, -(-params.min_steps // max(steps, 1))) if steps else 0
    curve: list[dict[str, float]] = []
    best = towers.state_dict()  # Follows the training, unless a better one is put there.
    if file.exists():
        kept = torch.load(file, map_location=device, weights_only=True)
        towers.load_state_dict(kept["towers"])
        optimizer.load_state_dict(kept["optimizer"])
        curve = kept["curve"]
        if len(held_out):
            best = kept["best"]
        log.info("resumed after epoch %d of %d", len(curve), epochs)
    with progress(total=epochs * steps, initial=len(curve) * steps, desc="two_tower") as bar:
        while len(curve) < epochs and not _has_settled(curve, params):
            generator = torch.Generator(device).manual_seed(seed * 1_000_003 + len(curve))
            order = torch.randperm(len(learned), generator=generator, device=device)
            loss: float | Tensor = 0.0
            teacher.begin_epoch()
            for step, rows in enumerate(learned[order].tensor_split(steps), len(curve) * steps):
                optimizer.param_groups[0]["lr"] = params.lr * _pace((step + 0.5) / steps / epochs)
                loss += _step(teacher.loss(rows, generator), optimizer) * len(rows)
                bar.update()
            done = len(curve) + 1.0
            row = {"epoch": done, "step": done * steps, "loss": float(loss) / len(learned)}
            if len(held_out):
                row["mrr"] = teacher.mean_reciprocal_rank(held_out)
                if row["mrr"] > max((before["mrr"] for before in curve), default=-1.0):
                    best = {name: weights.clone() for name, weights in towers.state_dict().items()}
            curve.append(row)
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as temporary:
                state = {"towers": towers.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state | {"curve": curve, "best": best}, temporary)
    towers.load_state_dict(best)
    shutil.rmtree(folder, ignore_errors=True)
    return towers.cpu(), curve


class Teacher:
    """Draws negatives for rows of examples and says how wrong the towers are about them."""

    def __init__(self, lesson: Lesson, towers: Towers, params: TwoTower) -> None:
        self._lesson, self._towers, self._params = lesson, towers, params
        self._total = len(lesson.items.begin)
        events = lesson.examples
        chosen = events.to("cpu").chosen(len(lesson.users.begin))
        self._chosen = chosen.to(str(events.item.device))
        users = torch.arange(len(chosen.begin)).repeat_interleave(chosen.end - chosen.begin)
        self._keys = (users * self._total + chosen.entries).to(events.item.device)
        count = events.item.bincount(minlength=self._total).double()
        # What nobody chose may be a negative too, where it was shown.
        self._share = (count.clamp(min=1) / max(len(events), 1)).float()
        self._window = count.nonzero()[:, 0]
        self._popularity = (count[self._window] ** params.popularity_power).cumsum(0)
        self._near: Tensor | None = None

    def begin_epoch(self) -> None:
        """Find the items near each item of the window, where hard negatives are wanted."""
        if not self._params.hard:
            return
        _, vectors = encoded(self._towers, self._lesson, self._window)
        near, _ = FlatIndex(vectors.cpu().numpy()).search(vectors.cpu().numpy(), _NEAR + 1)
        self._near = self._window.new_zeros((self._total, near.shape[1]))
        self._near[self._window] = self._window[torch.from_numpy(near).to(vectors.device)]

    def loss(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss over rows of the examples, negatives drawn by the generator."""
        events = self._lesson.examples
        users, right = events.user[rows], events.item[rows]
        past, weights, offsets = events.histories(rows, self._params.recency)
        wrong = self._negatives(users, right, generator)
        used, place = compact(torch.cat([past, right, wrong.flatten()]), self._total)
        inputs = self._towers.item_inputs(used, self._lesson.items, self._lesson.vectors, generator)
        asked = self._towers.user_vectors(
            users, self._lesson.users, pooled(inputs, place[past], weights, offsets), generator
        )
        candidates, column = compact(torch.cat([right, wrong.flatten()]), self._total)
        vectors = self._towers.item_vectors(inputs[place[candidates]])
        if self._params.training == "pointwise":
            chosen = was_chosen(users, wrong, self._keys, self._total)
            right_vectors, wrong_vectors = vectors[column[right]], vectors[column[wrong]]
            temperature, bias = self._params.temperature, self._towers.bias
            return pointwise_loss(asked, right_vectors, wrong_vectors, chosen, temperature, bias)
        stands = torch.cat([column[right], column[wrong.flatten()]])
        return in_batch_loss(
            asked,
            vectors,
            column[right],
            stands.bincount(minlength=len(candidates)),
            self._share[candidates],
            chosen_among(users, column, self._chosen),
            self._params.temperature,
        )

    @torch.no_grad()
    def mean_reciprocal_rank(self, rows: Tensor) -> float:
        """Return how well the towers rank, over rows that are not learned from.

        An item's rank is that among the window's items, but for what else its user chose; equals
        stand in the middle of their places.
        """
        inputs, vectors = encoded(self._towers, self._lesson, self._window)
        place = torch.full((self._total,), -1, device=rows.device)
        place[self._window] = torch.arange(len(self._window), device=rows.device)
        events, total = self._lesson.examples, 0.0
        for part in rows.split(_JUDGED):
            past, weights, offsets = events.histories(part, self._params.recency)
            history = pooled(inputs, place[past], weights, offsets)
            users, target = events.user[part], place[events.item[part], None]
            scores = self._towers.user_vectors(users, self._lesson.users, history) @ vectors.T
            own = scores.gather(1, target)
            scores[chosen_among(users, place, self._chosen)] = -torch.inf
            others = scores.scatter(1, target, -torch.inf)
            rank = 1 + (others > own).sum(1) + (others == own).sum(1) / 2
            total += float(rank.reciprocal().double().sum())
        return total / len(rows)

    def _negatives(self, users: Tensor, right: Tensor, generator: torch.Generator) -> Tensor:
        """Draw items, some of which the users may have chosen: shape (n, m), or (any,) in batches.

        In batches the other rows' items are there already, and only what is hard or was shown is
        added: for a share of the rows one more item, for all rows to compare with.
        """
        hard, shown = self._params.hard, self._params.shown
        in_batch = self._params.training == "in_batch"
        shape = (len(users), 1 if in_batch else self._params.negatives)
        if in_batch and not hard + shown:
            return right[:0]

        def uniform() -> Tensor:
            return torch.rand(shape, generator=generator, device=users.device)

        kind, drawn = uniform(), uniform()
        at = (drawn.double() * self._popularity[-1]).clamp(max=self._popularity[-1])
        place = torch.searchsorted(self._popularity, at, right=True)
        wrong = self._window[place.clamp(max=len(self._window) - 1)]
        is_hard, is_shown = kind < hard, (kind >= hard) & (kind < hard + shown)
        if self._near is not None:
            nth = (drawn * self._near.shape[1]).long().clamp(max=self._near.shape[1] - 1)
            wrong = torch.where(is_hard, self._near[right[:, None], nth], wrong)
        if shown:
            rows = users[:, None].expand(shape).flatten()
            entry, has = self._lesson.shown.draw(rows, drawn.flatten())
            is_shown = is_shown & has.view(shape)
            wrong = torch.where(is_shown, entry.view(shape), wrong)
        return wrong[is_hard | is_shown] if in_batch else wrong


@torch.no_grad()
def encoded(towers: Towers, lesson: Lesson, items: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs and vectors of items, both of shape (n, dim), made a block at a time."""
    inputs = [
        towers.item_inputs(rows, lesson.items, lesson.vectors) for rows in items.split(_BLOCK)
    ]
    return torch.cat(inputs), torch.cat([towers.item_vectors(block) for block in inputs])


def _step(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """Go down the slope of a loss and return it."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _parts(examples: Examples, params: TwoTower, seed: int) -> tuple[Tensor, Tensor]:
    """Rows that are learned from, and those of users who are held out for stopping early."""
    every = torch.arange(len(examples))
    if params.patience is None:
        return every, every[:0]
    users = examples.user.unique()
    generator = torch.Generator().manual_seed(seed)
    out = users[torch.randperm(len(users), generator=generator)[: len(users) // _HELD_OUT]]
    apart = torch.isin(examples.user, out)
    judged = every[apart]
    drawn = torch.randperm(len(judged), generator=generator)[:_MOST_JUDGED]
    return every[~apart], judged[drawn.sort().values]


def _pace(done: float) -> float:
    """Return the share of the learning rate after a share of the steps, linear up and down."""
    return min(done / _WARM, (1 - done) / (1 - _WARM))


def _has_settled(curve: Sequence[dict[str, float]], params: TwoTower) -> bool:
    """Whether held-out users have been ranked no better for `patience` epochs."""
    figures = [row["mrr"] for row in curve if "mrr" in row]
    if params.patience is None or len(figures) <= params.patience:
        return False
    return max(figures[: -params.patience]) >= max(figures[-params.patience :])
