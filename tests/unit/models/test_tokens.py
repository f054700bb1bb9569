import numpy as np
import torch

from models.tokens import Mixture, Windows, load_tokens, save_tokens


def test_an_epoch_visits_every_window_once() -> None:
    windows = Windows(np.arange(1000, dtype=np.uint16))
    per_epoch = 999 // 16 - 1
    batch = windows.batch(0, sequences=per_epoch, length=16)
    starts = batch[:, 0].tolist()
    assert len(set(starts)) == per_epoch
    assert {start % 16 for start in starts} == {starts[0] % 16}
    assert torch.equal(batch, batch[:, :1] + torch.arange(17))


def test_windows_depend_on_the_position_alone() -> None:
    windows = Windows(np.arange(5000, dtype=np.uint16))
    whole = windows.batch(0, sequences=8, length=32)
    resumed = windows.batch(4 * 32, sequences=4, length=32)
    assert torch.equal(whole[4:], resumed)


def test_mixture_takes_its_share_from_the_second_stream() -> None:
    first = Windows(np.zeros(1000, dtype=np.uint16))
    second = Windows(np.ones(1000, dtype=np.uint16))
    batch = Mixture(first, second, second_share=0.25).batch(0, sequences=8, length=16)
    assert batch.float().mean() == 0.25


def test_tokens_survive_storage(tmp_path) -> None:
    tokens = np.array([0, 4095, 7], dtype=np.uint16)
    save_tokens(tokens, tmp_path / "tokens.u16")
    assert load_tokens(tmp_path / "tokens.u16").tolist() == [0, 4095, 7]
