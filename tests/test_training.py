"""Training: repeatable, honest about its best epoch, and blind to what it must not see."""

import contextlib
import os
import signal
import threading

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import nn
from torch.utils.data import DataLoader

from hsi_pipeline.accuracy import compare
from hsi_pipeline.datasets import HyperspectralDataset
from hsi_pipeline.loaders import LandCoverDataModule
from hsi_pipeline.models import build_model
from hsi_pipeline.training import (
    EpochResult,
    LandCoverTask,
    TrainingSettings,
    epoch_score,
    train,
)

SMALL = {"width": 4, "kernels": [3], "window": 3}
CLASSES = 3


def make_loaders(tiny, seed=0, **options):
    columns = np.arange(40)
    known = (tiny.labelled > 0) & tiny.valid
    side = {"train": known & (columns < 16), "validation": known & (columns >= 24)}
    return LandCoverDataModule(
        HyperspectralDataset(tiny.path),
        np.searchsorted([0, 1, 3, 7], tiny.labelled).astype(np.uint8),
        **side,
        hidden=known & ~side["train"],
        halo=13,
        seed=seed,
        **{"window": 16, "batch_size": 4, "batches": 4} | options,
    )


def make_model(tiny, name="hyperloopnet", seed=0, **settings):
    torch.manual_seed(seed)
    pixels = HyperspectralDataset(tiny.path)[:, :, :]
    spectra = pixels["image"][:, pixels["valid"]]
    model = build_model(name, 9, CLASSES, **(SMALL | settings if name == "hyperloopnet" else {}))
    model.load_state_dict(
        model.state_dict() | {"band_mean": spectra.mean(1), "band_std": spectra.std(1)}
    )
    return model


def score_of(model, loaders):
    """Score a model with nothing but torch: what the whole tiles give on validation pixels."""
    pairs = []
    with torch.inference_mode():
        for batch in loaders.val_dataloader():
            scores = model(batch["image"], batch["valid"][:, None].float())
            known = batch["valid"] & (batch["mask"] > 0)
            pairs.append((batch["mask"][known] - 1, scores.argmax(1)[known]))
    reference, predicted = (torch.cat(side).numpy() for side in zip(*pairs, strict=True))
    return compare(reference, predicted, CLASSES)


def test_the_same_seed_gives_the_same_weights_bit_by_bit(tiny):
    states, losses = [], []
    for seed in (5, 5, 6):
        model = make_model(tiny, seed=1)
        history = train(
            model,
            CLASSES,
            make_loaders(tiny, seed),
            TrainingSettings(epochs=2, seed=seed),
        )
        states.append(model.state_dict())
        losses.append([result.loss for result in history])
    first, again, other = states
    assert losses[0] == losses[1] != losses[2]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["hyperloopnet", "spectral"])
def test_classes_that_are_easy_to_tell_apart_are_learnt(tiny, name):
    model, loaders = make_model(tiny, name, width=16), make_loaders(tiny, batches=15)
    train(model, CLASSES, loaders, TrainingSettings(epochs=6, learning_rate=1e-2))
    assert score_of(model, loaders).overall > 0.95


def test_the_weights_of_the_best_epoch_of_the_second_half_are_kept(tiny):
    """With a wild learning rate, later epochs are often worse."""
    for seed in range(2, 12):
        model, loaders = make_model(tiny), make_loaders(tiny)
        settings = TrainingSettings(epochs=8, learning_rate=0.7, patience=9, seed=seed)
        history = train(model, CLASSES, loaders, settings)
        scores = [result.score for result in history]
        best = 4 + int(np.argmax(scores[4:]))
        if best < 7 and max(scores[:4]) > scores[4]:  # else this seed shows nothing
            break
    else:
        pytest.fail("no seed of ten shows anything")
    assert [result.epoch for result in history] == list(range(1, 9))
    assert [result.best for result in history] == [
        i >= 4 and score > max(scores[4:i], default=-1) for i, score in enumerate(scores)
    ]
    np.testing.assert_array_equal(score_of(model, loaders).matrix, history[best].accuracy.matrix)
    assert not model.training
    assert epoch_score(history[best].accuracy) == scores[best]


def test_the_score_is_the_mean_of_overall_accuracy_and_mean_f1():
    accuracy = compare(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    # class 0: 2 right of 3, none wrong, F1 0.8; class 1: 1 right of 1, one too many, F1 2/3
    assert epoch_score(accuracy) == pytest.approx((3 / 4 + (0.8 + 2 / 3) / 2) / 2)
    assert EpochResult(1, 0.5, accuracy, True).score == epoch_score(accuracy)
    assert epoch_score(compare(np.array([]), np.array([]), 2)) == 0.0


def test_training_stops_when_the_score_rises_no_more(tiny):
    history = train(
        make_model(tiny, "spectral"),
        CLASSES,
        make_loaders(tiny),
        TrainingSettings(epochs=30, learning_rate=1e-9, patience=2),  # stands still
    )
    assert [result.epoch for result in history if result.best] == [16]  # the second half's first
    assert len(history) == 18


def test_progress_is_reported(tiny):
    batches, epochs = [], []
    history = train(
        make_model(tiny, "spectral"),
        CLASSES,
        make_loaders(tiny),
        TrainingSettings(epochs=2),
        on_epoch=epochs.append,
        on_batch=lambda done, total: batches.append((done, total)),
    )
    assert epochs == history
    assert batches == [(done, 8) for done in range(1, 9)]


# --- what must have no influence ----------------------------------------------------------------


def one_batch(tiny):
    batch = next(iter(make_loaders(tiny).train_dataloader()))
    assert (batch["hidden"] & batch["valid"]).any()
    return batch


def loss_and_gradients(tiny, batch, name="hyperloopnet"):
    """One training step; the flip is the same each time."""
    task = LandCoverTask(make_model(tiny, name).train(), CLASSES, TrainingSettings())
    torch.manual_seed(0)
    loss = task.training_step(batch, 0)
    loss.backward()
    return loss.item(), [p.grad for p in task.model.parameters() if p.grad is not None]


def check_same(tiny, one, other, name="hyperloopnet"):
    (loss, gradients), (again, repeated) = (
        loss_and_gradients(tiny, batch, name) for batch in (one, other)
    )
    assert np.isfinite(loss)
    assert loss == again
    assert gradients
    for a, b in zip(gradients, repeated, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def scrambled(batch, where):
    """The batch with other spectra at some pixels."""
    noise = torch.rand(batch["image"].shape, generator=torch.Generator().manual_seed(3)) * 5
    return {**batch, "image": torch.where(where[:, None], noise, batch["image"])}


def test_hidden_pixels_have_no_influence_whatever_they_hold(tiny):
    batch = one_batch(tiny)
    check_same(tiny, batch, scrambled(batch, batch["hidden"]))


def test_invalid_pixels_have_no_influence(tiny):
    batch = one_batch(tiny)
    batch["valid"][:, :5] = False
    check_same(tiny, batch, scrambled(batch, ~batch["valid"]))


def test_labels_of_hidden_and_invalid_pixels_have_no_influence(tiny):
    batch = one_batch(tiny)
    batch["valid"][:, :5] = False
    unseen = batch["hidden"] | ~batch["valid"]
    check_same(tiny, batch, {**batch, "mask": torch.where(unseen, 2, batch["mask"])})


def test_unlabelled_pixels_are_not_scored(tiny):
    """In a network without reach, a pixel counts by its own label alone."""
    batch = one_batch(tiny)
    task = LandCoverTask(make_model(tiny, "spectral").eval(), CLASSES, TrainingSettings())
    other = scrambled(batch, batch["mask"] == 0)
    one, two = (task.training_step(b, 0).item() for b in (batch, other))
    assert one == pytest.approx(two, rel=1e-6)
    known = batch["mask"] > 0
    visible = known & batch["valid"] & ~batch["hidden"]
    with torch.inference_mode():
        scores = task.model(batch["image"]).movedim(1, -1)[visible]
    wanted = nn.functional.cross_entropy(scores, batch["mask"][visible] - 1, label_smoothing=0.05)
    assert one == pytest.approx(wanted.item(), rel=1e-5)


def test_a_batch_without_any_label_changes_nothing(tiny):
    batch = one_batch(tiny)
    loss, gradients = loss_and_gradients(tiny, {**batch, "mask": torch.zeros_like(batch["mask"])})
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients)


# --- Lightning ----------------------------------------------------------------------------------


def test_the_task_works_with_a_plain_trainer_and_plain_loaders(tiny):
    batch = one_batch(tiny)
    rows = [{key: value[i] for key, value in batch.items() if key != "hidden"} for i in range(4)]

    class Loaders(LightningDataModule):
        def train_dataloader(self):
            return DataLoader(rows, batch_size=2)

        def val_dataloader(self):
            return DataLoader(rows, batch_size=1)

    task = LandCoverTask(make_model(tiny), CLASSES, TrainingSettings())
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        plugins=[LightningEnvironment()],  # in a SLURM job, and where SLURM is installed, too
    )
    with _advice_on_workers_ignored():
        trainer.fit(task, datamodule=Loaders())
    assert task.accuracy.pixels == int(((batch["mask"] > 0) & batch["valid"]).sum())
    assert trainer.callback_metrics["validation_score"] == pytest.approx(epoch_score(task.accuracy))
    after = task.model.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(before["band_mean"], after["band_mean"])


@contextlib.contextmanager
def _advice_on_workers_ignored():
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message="The `srun` command")
        yield


def test_ctrl_c_ends_as_a_keyboard_interrupt(tiny):
    """Lightning would exit with code 1 and leave Ctrl-C without effect from then on."""
    handler = signal.getsignal(signal.SIGINT)
    assert threading.current_thread() is threading.main_thread()

    def interrupt(result):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(
            make_model(tiny, "spectral"),
            CLASSES,
            make_loaders(tiny),
            TrainingSettings(epochs=50),
            on_epoch=interrupt,
        )
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_gpu_learns_the_same_and_gives_the_model_back_on_the_cpu(tiny, precision):
    model, loaders = make_model(tiny, width=16), make_loaders(tiny, batches=15)
    settings = TrainingSettings(epochs=6, learning_rate=1e-2, device="cuda", precision=precision)
    train(model, CLASSES, loaders, settings)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert score_of(model, loaders).overall > 0.95
