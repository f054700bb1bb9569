"""Policy files (shared/policy.py) and what any YAML file of an operator is held to (shared/yaml_file.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PolicyError
from shared.policy import MAX_MS, MAX_RATIO, Policy, ServiceClass, load_policy
from shared.yaml_file import MAX_BYTES, YamlFile

GOOD = """\
classes:
  coding: {tpot: 1.2x, ttft_ms: 500, tier: 0, objective: 0.99}
  chatbot: {tpot_ms: 50}
  batch: {tier: 3}
tenants:
  acme: {classes: [coding, chatbot], default: chatbot, weight: 3, rpm: 600, tpm: 200000,
         max_concurrent: 64, max_tokens: 4096, acceptance: [exact], tpot_ms_min: 30}
  globex:
    classes: [batch]
    default: batch
"""
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
TARGETS = st.one_of(
    st.fixed_dictionaries({"tpot": st.integers(1, int(MAX_RATIO)).map("{}x".format)}),
    st.fixed_dictionaries({"tpot_ms": st.floats(1e-3, MAX_MS)}),
    st.fixed_dictionaries({"ttft_ms": st.floats(1e-3, MAX_MS), "objective": st.floats(0, 1)}),
    st.builds(dict),  # one object for all would be written as an alias
)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """The content of a valid policy file."""
    classes = draw(st.dictionaries(NAMES, TARGETS, min_size=1, max_size=4))
    tenants = {}
    for name in draw(st.sets(NAMES, min_size=1, max_size=3)):
        mine = draw(st.lists(st.sampled_from(sorted(classes)), min_size=1, unique=True))
        tenants[name] = {
            "classes": mine,
            "default": draw(st.sampled_from(mine)),
            "weight": draw(st.integers(1, 9)),
        }
    return {"classes": classes, "tenants": tenants}


def load(folder: Path, text: str | bytes) -> Policy:
    path = folder / "p.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_policy(path)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(PolicyError) as caught:
        load(folder, text)
    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith(str(folder / "p.yaml"))
    return told.removeprefix(str(folder / "p.yaml"))


def test_the_file_of_the_design_is_read_as_written(tmp_path: Path) -> None:
    policy = load(tmp_path, GOOD)
    assert policy.classes["coding"] == ServiceClass(tpot="1.2x", ttft_ms=500.0, tier=0, objective=0.99)
    assert (policy.classes["coding"].tpot, policy.classes["chatbot"].tier) == (1.2, 2)
    assert [one.has_target for one in policy.classes.values()] == [True, True, False]
    acme = policy.tenants["acme"]
    assert (acme.classes, acme.default, acme.weight, acme.rpm, acme.tpm) == (
        ("coding", "chatbot"), "chatbot", 3.0, 600, 200_000,
    )  # fmt: skip
    assert (acme.max_concurrent, acme.max_tokens, acme.acceptance, acme.tpot_ms_min) == (
        64,
        4096,
        ("exact",),
        30.0,
    )
    assert policy.tenants["globex"].rpm is None
    assert list(policy.tenants) == ["acme", "globex"]


@pytest.mark.parametrize(
    ("acceptance", "threshold"),
    [("[exact]", None), ("[exact, typical]", 0.09), ("[{typical: {threshold: 0.3}}, exact]", 0.3)],
)
def test_typical_acceptance_is_allowed_by_name(tmp_path: Path, acceptance: str, threshold: float | None) -> None:
    policy = load(tmp_path, GOOD.replace("[exact]", acceptance))
    assert policy.tenants["acme"].typical == threshold
    assert policy.tenants["globex"].typical is None


@given(content=policies(), flow=st.booleans())
def test_any_valid_policy_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: Any, flow: bool
) -> None:
    text = yaml.safe_dump(content, default_flow_style=flow, sort_keys=False)
    assert load(tmp_path_factory.getbasetemp(), text) == Policy.model_validate(content)


@given(
    data=st.one_of(st.binary(max_size=60), st.text("{}[]:-,?&*!|>'\"%@` \n\tab10.x", max_size=60).map(str.encode))
)
def test_no_file_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    refusal(tmp_path_factory.getbasetemp(), data)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("1.2x", "1.2", ", line 2: classes.coding.tpot='1.2': must be a multiple of the zero-load latency, such"),
        ("1.2x", "1001x", ", line 2: classes.coding.tpot='1001x': Input should be less than or equal to 1000"),
        ("1.2x", "0x", ", line 2: classes.coding.tpot='0x': Input should be greater than 0"),
        ("0.99", "99", ", line 2: classes.coding.objective='99': Input should be less than or equal to 1"),
        ("tier: 3", "tier: 4", ", line 4: classes.batch.tier='4': Input should be less than or equal to 3"),
        ("tier: 3", "tier: yes", ", line 4: classes.batch.tier='yes': Input should be a valid integer"),
        ("tier: 3", "tire: 3", ", line 4: classes.batch.tire='3': no such field; there are tpot, tpot_ms"),
        ("tier: 3", "objective: 0.5", ", line 4: classes.batch.objective='0.5': needs a target"),
        ("tpot_ms: 50", "tpot_ms: .nan", ", line 3: classes.chatbot.tpot_ms='.nan': Input should be less than"),
        ("tpot_ms: 50", "tpot_ms: fast", ", line 3: classes.chatbot.tpot_ms='fast': Input should be a valid"),
        ("tpot_ms: 50", "tpot_ms: 50, tpot: 2x", ", line 3: classes.chatbot.tpot_ms='50': a class has at most"),
        ("rpm: 600", "rpm: 0", ", line 6: tenants.acme.rpm='0': Input should be greater than or equal to 1"),
        ("max_tokens: 4096", "max_tokens: 9999999", ", line 7: tenants.acme.max_tokens='9999999': Input should"),
        ("[exact]", "[lossy]", ", line 7: tenants.acme.acceptance.0='lossy': must be exact, typical or {t"),
        ("[exact]", "[typical]", ", line 7: tenants.acme.acceptance: must have exact, which requests get that"),
        ("[exact]", "[exact, exact]", ", line 7: tenants.acme.acceptance.1='exact': is given twice"),
        ("[exact]", "[exact, 3]", ", line 7: tenants.acme.acceptance.1='3': must be exact, typical or"),
        ("[exact]", "[exact, {typical: {threshold: 2}}]",
         ", line 7: tenants.acme.acceptance.1.typical.threshold='2': Input should be less than or equal to 1"),
        ("[exact]", "[exact, {typical: {}, top: 1}]", ", line 7: tenants.acme.acceptance.1.top='1': no such"),
        ("[batch]", "[batch, ghost]", ", line 9: tenants.globex.classes.1='ghost': no such class; there are"),
        ("[batch]", "[batch, batch]", ", line 9: tenants.globex.classes.1='batch': is given twice"),
        ("[batch]", "batch", ", line 9: tenants.globex.classes='batch': must be a list"),
        ("default: batch", "default: coding", ", line 10: tenants.globex.default='coding': must be one of the"),
        ("    default: batch\n", "", ", line 8: tenants.globex.default: is required"),
        ("  batch:", "  a b:", ", line 4: classes.a b: String should match pattern"),
        ("  batch:", "  chatbot:", ", line 4: 'chatbot' is given twice"),
        ("{tier: 3}", "3", ", line 4: classes.batch='3': must be a mapping"),
    ],
)  # fmt: skip
def test_an_error_names_line_field_value_and_limit(tmp_path: Path, before: str, after: str, told: str) -> None:
    assert before in GOOD
    assert refusal(tmp_path, GOOD.replace(before, after, 1)).startswith(told)


MORE = """\
service_tiers: {priority: coding, flex: batch}
schedules:
  - {class: chatbot, cron: "0 9-18 * * 1-5", tpot_ms: 40}
  - class: coding
    tenant: acme
    cron: "* 22,23 * * *"
    timezone: Europe/Vienna
    tier: 3
rollout:
  tenants: [acme]
  ramp: [0.1, 0.5]
  otherwise: {upstream: "https://old.example:8443/v1/", api_key_env: OLD_KEY}
"""


def test_schedules_service_tiers_and_rollout_are_read(tmp_path: Path) -> None:
    policy = load(tmp_path, GOOD + MORE)
    assert policy.service_tiers == {"priority": "coding", "flex": "batch"}
    first, second = policy.schedules
    assert (first.service_class, first.tenant, first.changes) == ("chatbot", None, {"tpot_ms": 40.0})
    assert (second.tenant, second.timezone, second.changes) == ("acme", "Europe/Vienna", {"tier": 3})
    rollout = policy.rollout
    assert rollout is not None
    assert rollout.otherwise is not None
    assert (rollout.steps, rollout.period_hours, rollout.margin) == ((0.1, 0.5), 24.0, 0.02)
    assert (rollout.otherwise.upstream, rollout.otherwise.api_key_env) == (
        "https://old.example:8443/v1",
        "OLD_KEY",
    )
    assert policy.judged_classes == {"coding": 0.99}


def test_a_rollout_without_a_ramp_has_one_step(tmp_path: Path) -> None:
    for otherwise in ("", ", otherwise: plain"):
        rollout = load(tmp_path, GOOD + f"rollout: {{share: 0.2, tenants: [globex]{otherwise}}}\n").rollout
        assert rollout is not None
        assert (rollout.steps, rollout.otherwise) == ((0.2,), None)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("priority: coding", "gold: coding", ", line 11: service_tiers.gold='coding': Input should be 'default'"),
        ("flex: batch", "flex: slow", ", line 11: service_tiers.flex='slow': no such class; there are coding"),
        ("class: chatbot, cron", "class: chat, cron", ", line 13: schedules.0.class='chat': no such class; there"),
        ("tenant: acme", "tenant: acne", ", line 15: schedules.1.tenant='acne': no such tenant; there are acme"),
        ("class: coding", "class: batch", ", line 14: schedules.1.class='batch': is no class of tenant acme"),
        ("9-18", "18-9", ", line 13: schedules.0.cron='0 18-9 * * 1-5': not a cron expression that ever matches"),
        ("0 9-18 * * 1-5", "0 0 30 2 *", ", line 13: schedules.0.cron='0 0 30 2 *': not a cron expression that e"),
        ("* 22,23", "* * 22,23", ", line 16: schedules.1.cron='* * 22,23 * * *': must have five fields"),
        ("Vienna", "Wien", ", line 17: schedules.1.timezone='Europe/Wien': must be a time zone of the IANA"),
        ("Europe/Vienna", "../passwd", ", line 17: schedules.1.timezone='../passwd': must be a time zone"),
        ("Europe/Vienna", "Europe", ", line 17: schedules.1.timezone='Europe': must be a time zone"),
        (", tpot_ms: 40", "", ", line 13: schedules.0: needs at least one of tpot, tpot_ms"),
        ("tpot_ms: 40", "tpot_ms: 40, tpot: 2x", ", line 13: schedules.0.tpot_ms='40': an entry has at most one"),
        ("    tier: 3", "    tire: 3", ", line 18: schedules.1.tire='3': no such field; there are class, tenant"),
        ("[acme]\n  ramp", "[acne]\n  ramp", ", line 20: rollout.tenants.0='acne': no such tenant"),
        ("[acme]\n  ramp", "[acme, acme]\n  ramp", ", line 20: rollout.tenants.1='acme': is given twice"),
        ("[acme]\n  ramp", "[globex]\n  ramp", ", line 21: rollout.ramp: needs a class with an objective among"),
        ("[0.1, 0.5]", "[0.5, 0.1]", ", line 21: rollout.ramp.1='0.1': must be above the step before, 0.5"),
        ("[0.1, 0.5]", "[0.1, 1.5]", ", line 21: rollout.ramp.1='1.5': Input should be less than or equal to 1"),
        ("  ramp: [0.1, 0.5]\n", "", ", line 19: rollout.share: is required where there is no ramp"),
        ("[0.1, 0.5]", "[0.1, 0.5]\n  share: 0.2", ", line 22: rollout.share='0.2': must be the ramp's first ste"),
        ("https://old", "ftp://old", ", line 22: rollout.otherwise.upstream='ftp://old.example:8443/v1/': must b"),
        (":8443", ":port", ", line 22: rollout.otherwise.upstream='https://old.example:port/v1/': must be an add"),
        ("//old", "//me:key@old", ", line 22: rollout.otherwise.upstream='https://me:key@old.example:8443/v1/':"),
        ("OLD_KEY", "a b", ", line 22: rollout.otherwise.api_key_env='a b': must be the name of an environment"),
        ("OLD_KEY", "ADASERVE_ADMIN_KEY", ", line 22: rollout.otherwise.api_key_env='ADASERVE_ADMIN_KEY': must n"),
        ("{upstream", "{timeout_s: 0, upstream", ", line 22: rollout.otherwise.timeout_s='0': Input should be gr"),
        ('{upstream: "https://old.example:8443/v1/", api_key_env: OLD_KEY}', "slow",
         ", line 22: rollout.otherwise='slow': must be a mapping"),
    ],
)  # fmt: skip
def test_an_error_in_the_later_sections_does_so_too(tmp_path: Path, before: str, after: str, told: str) -> None:
    assert before in MORE
    assert refusal(tmp_path, GOOD + MORE.replace(before, after, 1)).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ": the file is empty"),
        ("- a\n", ", line 1: must be a mapping"),
        ("classes: {}\ntenants: {}\n", ", line 1: classes: Dictionary should have at least 1 item"),
        ("a: &x {}\nb: *x\n", ", line 2: aliases are not supported"),
        ("a: [", ", line 1: expected the node content"),
        ("a: 1\n---\nb: 1\n", ", line 2: but found another document"),
        ("a: !!python/object:os.system x\n", ", line 1: could not determine a constructor"),
        ("? [a]\n: 1\n", ", line 1: found unhashable key"),
        ("a: 2001-99-99\n", ": not YAML (month must be in 1..12)"),
        ("[" * 2000, ": not YAML ("),
        ("a: !!int ''", ": not YAML ("),
        ("a: !!bool x", ": not YAML ("),
        ("a: !!timestamp x", ": not YAML ("),
        ('"a\\n\\ud800": 1', r", line 1: 'a\n\ud800'='1': no such field"),
        ("~: 1", ", line 1: None: no such field"),
        (b"\xff\xfe\x00", ": not YAML ("),
        (b"#" * (MAX_BYTES + 1), ": has more than 1048576 bytes"),
    ],
)
def test_what_is_not_the_yaml_accepted_here(tmp_path: Path, text: str | bytes, told: str) -> None:
    assert refusal(tmp_path, text).startswith(told)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        YamlFile.read(tmp_path / "none.yaml")


def test_long_values_are_cut_in_errors(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, GOOD.replace("50", "x" * 10_000))) < 300
