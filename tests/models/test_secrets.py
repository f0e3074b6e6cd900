"""What a server echoes: no key and no password of an address is stored or printed, however it is written."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from echo import Reply, answering, chat
from test_rescore import NEW, lines, make_run

from synth_dspy.cli import evaluate
from synth_dspy.cli.arguments import parse
from synth_dspy.core.addresses import is_this_machine
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.masking import mask_message, mask_reply
from synth_dspy.models import roles

KEY = "sk-Zq7/Kd+29_xW&vT=41mNbY8u"
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": json.dumps,
    "in JSON in JSON": lambda key: json.dumps(json.dumps(key)),
    "with escaped slashes": lambda key: key.replace("/", "\\/"),
    "as code points": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "as bytes of Python": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "in an address": lambda key: quote(key, safe=""),
    "in an address of an address": lambda key: quote(quote(key, safe=""), safe=""),
    "each character in percent": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "half of it in percent": lambda key: key[:9] + "".join(f"%{ord(c):02x}" for c in key[9:]),
    "in HTML": html.escape,
    "as numbers of HTML": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "in Base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in Base64, with a user": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "in Base64, after one letter": lambda key: base64.b64encode(f"x{key}y".encode()).decode(),
    "in Base64, after two letters": lambda key: base64.b64encode(f"xy{key}yy".encode()).decode(),
    "in Base64 of addresses": lambda key: base64.urlsafe_b64encode(f"Bearer {key}".encode()).decode(),
    "cut off": lambda key: key[:20],
    "with words around it": lambda key: f"The key {key}, which you gave, is wrong.",
}


def traces(text: str) -> list[str]:
    """Pieces of the key that stand in a text, as it is or in Base64: more than a guess would hold."""
    coded = [base64.b64encode(b"\0" * n + KEY.encode()).decode().rstrip("=")[4:-4] for n in range(3)]
    pieces = [
        whole[start : start + 10] for whole in (KEY, quote(KEY, safe=""), *coded) for start in range(len(whole) - 9)
    ]
    return [piece for piece in pieces if piece in text]


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_masked_however_it_is_written(form: str) -> None:
    written = FORMS[form](KEY)
    for masked in (mask_reply(f"<{written}>", [KEY]), mask_message(f"<{written}>", [KEY])):
        assert "***" in masked
        assert written not in masked
        assert not traces(masked)


@pytest.mark.parametrize(
    "text", ["", "An answer of 31 March 2027.", json.dumps({"sk": "Zq7/", "é": "%41 &amp; \\u0041"})]
)
def test_a_reply_without_the_key_stays_as_it_is(text: str) -> None:
    assert mask_reply(text, [KEY]) == text
    assert mask_reply("none of these", ["none"]) == "none of these"  # what local servers are given is no secret


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("mysql://me:hunter2@db/x", "mysql://***@db/x"),
        ("http://me:p@ss/w@host:8000/v1 is gone", "http://***@host:8000/v1 is gone"),
        ("https:\\/\\/me:hunter2@host", "https:\\/\\/***@host"),
        ("{'Authorization': 'Bearer abcd1234'}", "{'Authorization': 'Bearer ***'}"),
        ('"api_key": "abcd1234"', '"api_key": "***"'),
        ("no secret: https://host/a?b=c", "no secret: https://host/a?b=c"),
    ],
)
def test_what_looks_like_a_credential_leaves_a_message(text: str, left: str) -> None:
    assert mask_message(text) == left


@pytest.mark.parametrize("text", ["http://", "\\", "%25", "&#000", "Bearer ", "api_key  ", "@", "sk-Zq7"])
def test_no_text_keeps_the_masking_busy(text: str) -> None:
    """100,000 characters that nearly match; a pattern that backtracks over them takes minutes."""
    assert mask_message(text * (100_000 // len(text)), [KEY])
    assert mask_reply("%" + text * (100_000 // len(text)), [KEY])


def test_a_variable_that_is_named_like_a_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "kkkk-1234-kkkk")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter22@proxy:3128")
    assert mask_message("refused kkkk-1234-kkkk and hunter22") == "refused *** and ***"


def test_an_error_that_echoes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its message, its body, its headers, or where it redirects to."""
    monkeypatch.setenv("MY_KEY", KEY)
    forms = ("as it is", "in an address", "as code points", "in Base64, with a user")
    cases = [(status, form) for status in (301, 307, 400, 401, 403, 404, 418, 429, 500, 503) for form in forms]
    now: list[tuple[int, str]] = []

    def reply(headers: dict[str, str]) -> Reply:
        assert headers["Authorization"] == f"Bearer {KEY}"
        status, written = now[-1]
        body = json.dumps({"error": {"message": f"{written} {json.dumps(headers)}", "headers": headers}})
        moved = f"http://elsewhere/?key={written}"
        return Reply(body, status, {"Location": moved, "X-Echo": written, "Retry-After": "0"})

    messages = []
    with answering(reply) as server, Ledger(tmp_path / "ledger.sqlite") as ledger:
        lm = roles.lm_for(
            "openai/mock", role="teacher", ledger=ledger, api_base=server.url, api_key_name="MY_KEY", attempts=1
        )
        for status, form in cases:
            now.append((status, FORMS[form](KEY)))
            with pytest.raises(Exception, match=r"\*\*\*") as caught:
                lm(f"Well, {status} {form}?")
            messages.append(str(caught.value))
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode("latin-1")
    assert stored.count("***") >= len(cases)
    for text in (*messages, stored):
        assert not [written for _, written in now if written in text]
        assert not traces(text)


def test_an_answer_that_echoes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with (
        answering(lambda headers: Reply(chat({"content": f"You sent {headers['Authorization']}."}))) as server,
        Ledger(tmp_path / "ledger.sqlite") as ledger,
    ):
        lm = roles.lm_for("openai/mock", role="teacher", ledger=ledger, api_base=server.url, api_key_name="MY_KEY")
        assert lm("Well?") == ["You sent Bearer ***."]
    assert not traces((tmp_path / "ledger.sqlite").read_bytes().decode("latin-1"))


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with answering(lambda _: Reply(chat())) as other:
        for status in (301, 302, 303, 307, 308):
            moved = Reply("", status, {"Location": f"{other.url}/chat/completions"})
            with answering(lambda _, moved=moved: moved) as server:
                lm = roles.lm_for("openai/mock", role="teacher", api_base=server.url, api_key_name="MY_KEY")
                with pytest.raises(SetupError, match=rf"redirects to {other.url}.* \({status}\)"):
                    lm("Well?")
        assert not other.headers


@pytest.mark.slow
def test_nothing_of_an_evaluation_holds_the_key_that_its_server_echoes(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file of the run, its ledger, its log, and the terminal."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    seeds = lines(tmp_path / "fresh.jsonl", NEW)
    turn = iter(range(1000))

    def reply(headers: dict[str, str]) -> Reply:
        echo = json.dumps({"error": {"message": f"what is {json.dumps(headers)}?"}})
        return Reply(echo, 400) if next(turn) == 0 else Reply(chat({"content": f"It is {headers['Authorization']}"}))

    with answering(reply) as server:
        hosted = dict.fromkeys(("student", "judge", "embedder"), "openai/mock") | {"api_base": server.url}
        run = make_run(tmp_path / "made", workspace, ("rag",), **hosted)
        evaluate.main([str(run), "--seeds", str(seeds), "--out", str(tmp_path / "out")])
        assert len(server.headers) >= len(NEW)
    printed = capsys.readouterr()
    texts = {str(path): path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()}
    assert {"predictions.jsonl", "report.html", "report.md", "run.log"} <= {Path(name).name for name in texts}
    assert any("***" in text for text in texts.values())
    for where, text in {**texts, "terminal": printed.out + printed.err}.items():
        assert not traces(text), where


@pytest.mark.parametrize(
    "flags",
    [
        ["--models.api-base", "http://me:hunter2@host/v1"],
        ["--models.api-base", "http://me:hun/ter2@host/v1"],
        ["--models.api-base", "http://host/v1?key=hunter2"],
    ],
)
def test_an_address_with_a_password_is_no_setting(flags: list[str]) -> None:
    with pytest.raises(SetupError) as caught:
        parse(CompileConfig, verb="compile", description="", args=flags)
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("options", [{"extra_headers": {"Authorization": "x"}}, {"aws_secret_access_key": "x"}])
def test_a_key_in_a_model_s_options_is_refused_at_any_depth(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a configuration must not contain a key"):
        CompileConfig.model_validate({"models": {"options": {"teacher": options}}})
    CompileConfig.model_validate({"models": {"options": {"teacher": {"api_key_name": "MY_KEY", "max_tokens": 5}}}})


def test_the_password_of_an_address_from_the_environment_is_sent_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with answering(lambda headers: Reply(json.dumps(headers), 500)) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url.replace("://", "://me:hunter2222@"))
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            lm = roles.lm_for("openai/mock", role="teacher", ledger=ledger, attempts=1)
            assert "hunter2222" not in json.dumps(lm.dump_state())
            with pytest.raises(ModelError, match=r"://\*\*\*@127") as caught:
                lm("Well?")
        (headers,) = server.headers
    sent = headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent) == b"me:hunter2222"
    for text in (str(caught.value), (tmp_path / "ledger.sqlite").read_bytes().decode("latin-1")):
        assert "hunter2222" not in text
        assert sent not in text


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.8.9.1/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://a.localhost/v1", True),
        ("http://127.0.0.1.evil.example/v1", False),
        ("http://localhost.evil.example/v1", False),
        ("http://127.0.0.1@evil.example/v1", False),
        ("http://10.0.0.5:8000/v1", False),
        ("http://0x7f000001/v1", False),
        ("http://[fe80::1", False),
    ],
)
def test_a_key_goes_over_plain_http_to_this_machine_alone(
    monkeypatch: pytest.MonkeyPatch, address: str, ours: bool
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert is_this_machine(address) is ours
    if ours:
        roles.lm_for("openai/mock", role="teacher", api_base=address)
        return
    for model in ("openai/mock", "mistral/mock"):
        flags = r"api_key_name \(--models\.options\.teacher\.api-key-name .*--models\.allow-http .*else --allow-http"
        with pytest.raises(SetupError, match=f"OPENAI_API_KEY would be sent unencrypted to .*{flags}"):
            roles.lm_for(model, role="teacher", api_base=address)
    with pytest.raises(SetupError, match=r"unencrypted.*unset OPENAI_API_KEY, or"):
        roles.embedder_for("openai/mock", api_base=address)
    roles.lm_for("openai/mock", role="teacher", api_base=address, allow_http=True)
    roles.lm_for("openai/mock", role="teacher", api_base=address, api_key_name="NO_SUCH_KEY")
    roles.lm_for("openai/mock", role="teacher", api_base=address.replace("http:", "https:"))
