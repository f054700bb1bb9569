import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.attention import blocked_causal, use_training_attention
from models.losses import distillation_loss, next_token_loss
from models.optimizers import WARMUP_STEPS, lr_factor
from models.paths import replaced_directory


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


@torch.no_grad()
def test_blocked_attention_changes_nothing(model: LlamaForCausalLM) -> None:
    tokens = torch.randint(0, 40, (2, 300))
    fused = model(tokens, use_cache=False).logits
    use_training_attention(model)
    assert model.config._attn_implementation == blocked_causal.__name__
    torch.testing.assert_close(model(tokens, use_cache=False).logits, fused, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_distillation_from_itself_is_the_entropy_when_choices_weigh_nothing(
    model: LlamaForCausalLM,
) -> None:
    batch = torch.randint(0, 40, (2, 17))
    log_probs = model(batch[:, :-1]).logits.log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    torch.testing.assert_close(distillation_loss(model, model, batch, choice_weight=0.0), entropy)


def test_a_step_against_the_gradient_lowers_the_loss(model: LlamaForCausalLM) -> None:
    batch = torch.randint(0, 40, (2, 17))
    before = next_token_loss(model, batch)
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad
    assert next_token_loss(model, batch) < before


def test_learning_rate_warms_up_by_steps_and_ends_at_zero_by_time() -> None:
    assert 0.0 < lr_factor(0, 0.0) < 0.1
    assert lr_factor(WARMUP_STEPS, 0.0) == 1.0
    assert lr_factor(10_000, 0.5) == 0.5
    assert lr_factor(10_000, 1.0) == 0.0


def test_a_failed_write_leaves_the_old_directory(tmp_path) -> None:
    destination = tmp_path / "pair"
    destination.mkdir()
    (destination / "kept").touch()
    with pytest.raises(OSError), replaced_directory(destination) as directory:  # noqa: PT011, PT012
        (directory / "half").touch()
        raise OSError
    assert [path.name for path in destination.iterdir()] == ["kept"]
    with replaced_directory(destination) as directory:
        (directory / "whole").touch()
    assert [path.name for path in destination.iterdir()] == ["whole"]
