"""`dgx-vllm chat`, in a pipe and on a terminal: a server answers, refuses, breaks off or is gone."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from talking import Talker

from dgx_vllm.launch.process.registry import Entry, Registration
from helpers.processes import PATIENCE

COMMAND = [sys.executable, "-m", "dgx_vllm.cli", "chat"]


@pytest.fixture
def talker() -> Iterator[Talker]:
    with closing(Talker()) as found:
        yield found


@pytest.fixture
def alone(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """No systemd, and nobody at the usual port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {**environment, "PATH": str(tmp_path), "PORT": str(probe.getsockname()[1])}


@pytest.fixture
def registered(talker: Talker, alone: dict[str, str]) -> Iterator[Callable[..., None]]:
    made = []

    def register(**changes: object) -> None:
        given = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "model": "org/model",
            "uses": (),
            "started": 1.0,
        }
        entry = Entry(**{**given, "url": talker.url, "ready": 2.0, "served": "model", **changes})  # type: ignore[arg-type]
        made.append(Registration(entry, alone))

    yield register
    for each in made:
        each.close()


def piped(environ: dict[str, str], question: str, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *words], env=environ, input=question, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout, done.stderr


def test_a_question_in_a_pipe(talker: Talker, alone: dict[str, str]) -> None:
    talker.answers.append([("reasoning", "hm"), "Good ", "day"])
    words = ("--url", talker.url, "--system", "Be brief.", "--max-tokens", "7", "--temperature", "0")
    assert piped(alone, "hi\n", *words) == (0, "Good day\n", "")
    (asked,) = talker.asked
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == ("model", 7, 0)


@pytest.mark.parametrize("form", ["{url}", "{url}/v1", "{url}/v1/", "127.0.0.1:{port}"])
def test_addresses_in_the_forms_that_people_have(talker: Talker, alone: dict[str, str], form: str) -> None:
    talker.answers.append(["yes"])
    assert piped(alone, "hi", "--url", form.format(url=talker.url, port=talker.port))[:2] == (0, "yes\n")


def test_a_prompt_goes_before_what_is_piped(talker: Talker, alone: dict[str, str]) -> None:
    talker.answers.append(["yes"])
    piped(alone, "a text\n", "--url", talker.url, "-p", "Sum it up:")
    assert talker.asked[0]["messages"][0]["content"] == "Sum it up:\n\na text"


@pytest.mark.parametrize("word", [None, "model", "org/model"])
def test_the_server_is_found(
    talker: Talker, alone: dict[str, str], registered: Callable[..., None], word: str | None
) -> None:
    registered()
    talker.answers.append(["found"])
    assert piped(alone, "hi", *([word] if word else [])) == (0, "found\n", "")


def test_an_adapter_of_the_only_server(
    talker: Talker, alone: dict[str, str], registered: Callable[..., None]
) -> None:
    registered()
    talker.models = ["model", "adapter"]
    talker.answers.append(["found"])
    assert piped(alone, "hi", "adapter") == (0, "found\n", "")
    assert talker.asked[0]["model"] == "adapter"
    assert "serves model, adapter, not other; name one of these" in piped(alone, "hi", "other")[2]


def test_a_prompt_does_not_wait_for_a_socket(talker: Talker, alone: dict[str, str]) -> None:
    """As `ssh spark dgx-vllm chat -p hi` has for standard input."""
    talker.answers.append(["yes"])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [*COMMAND, "--url", talker.url, "-p", "hi"],
            env=alone,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert (done.returncode, done.stdout) == (0, "yes\n")


def test_a_server_of_a_container_at_the_usual_port(talker: Talker, alone: dict[str, str]) -> None:
    talker.answers.append(["found"])
    assert piped({**alone, "PORT": str(talker.port)}, "hi") == (0, "found\n", "")


def test_a_server_with_a_key(
    talker: Talker, alone: dict[str, str], registered: Callable[..., None], tmp_path: Path
) -> None:
    talker.key = "secret"
    file = tmp_path / "key"
    file.write_text("secret\n")
    talker.answers += [["1"], ["2"], ["3"]]
    assert piped(alone, "hi", "--url", talker.url, "--api-key-file", str(file))[:2] == (0, "1\n")
    assert piped({**alone, "VLLM_API_KEY": "secret"}, "hi", "--url", talker.url)[:2] == (0, "2\n")
    status, out, err = piped(alone, "hi", "--url", talker.url)
    assert (status, out) == (1, "")
    assert "answers 401: Unauthorized; give the key: --api-key-file FILE, or VLLM_API_KEY" in err
    registered(key_file=str(file), has_key=True)
    assert piped(alone, "hi")[:2] == (0, "3\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            (),
            "no server is running; start one: dgx-vllm serve MODEL, or name one elsewhere: --url URL",
        ),
        (("--url", "http://127.0.0.1:9"), "does not answer"),
        (("--url", "ftp://x"), "give an address such as http://127.0.0.1:8888"),
        (("--url", "http://"), "give an address such as http://127.0.0.1:8888"),
    ],
)
def test_nobody_there_is_one_line(alone: dict[str, str], words: tuple[str, ...], said: str) -> None:
    status, out, err = piped(alone, "hi", *words)
    assert status in (1, 2)
    assert out == ""
    assert re.fullmatch(r"dgx-vllm: [^\n]+\n", err), err
    assert said in err


def test_an_empty_question_is_refused(talker: Talker, alone: dict[str, str]) -> None:
    assert (
        piped(alone, " \n", "--url", talker.url)[2]
        == "dgx-vllm: there is no question: standard input is empty\n"
    )


def test_a_server_that_starts(alone: dict[str, str], registered: Callable[..., None]) -> None:
    registered(ready=None, served=None)
    status, _, err = piped(alone, "hi")
    assert status == 1
    assert "is starting; see dgx-vllm status" in err


def test_a_model_that_the_server_has_not(talker: Talker, alone: dict[str, str]) -> None:
    talker.models = ["one", "org/two"]
    status, _, err = piped(alone, "hi", "three", "--url", talker.url)
    assert status == 2
    assert "serves one, org/two, not three; name one of these" in err
    talker.answers.append(["yes"])
    assert piped(alone, "hi", "two", "--url", talker.url)[0] == 0
    assert talker.asked[0]["model"] == "org/two"


def test_a_refusal_is_one_line_with_its_reason(talker: Talker, alone: dict[str, str]) -> None:
    talker.status = 400
    status, out, err = piped(alone, "hi", "--url", talker.url)
    assert (status, out) == (1, "")
    assert err == "dgx-vllm: the server answers 400: too long for me\n"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"error": {"message": "out of memory", "code": 500}},
            "the server failed while answering: out of memory",
        ),
        ({"choices": []}, "the answer was cut off: the server ended it without a reason"),
    ],
)
def test_an_answer_that_fails_midway(talker: Talker, alone: dict[str, str], event: object, said: str) -> None:
    talker.reason = None
    talker.answers.append(["half", event])
    status, out, err = piped(alone, "hi", "--url", talker.url)
    assert (status, out) == (1, "half\n")
    assert err == f"dgx-vllm: {said}\n"


def test_verbose_tells_an_answers_tokens_and_time(talker: Talker, alone: dict[str, str]) -> None:
    talker.answers.append(["a", "b", "c"])
    err = piped(alone, "hi", "--url", talker.url, "-v")[2]
    assert re.fullmatch(r"dgx-vllm: 3 tokens, the first in \d+\.\d\d s(, [\d.]+ tokens/s)?\n", err)


class Terminal:
    """A chat on a terminal of its own."""

    def __init__(self, environ: dict[str, str], *words: str) -> None:
        ours, theirs = pty.openpty()
        self._file = ours
        self.seen = ""
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            env={**environ, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=self._start,
        )
        os.close(theirs)

    @staticmethod
    def _start() -> None:
        """Makes the terminal the process's own; a build may run with Ctrl-C ignored, and so may a script."""
        os.close(os.open(os.ttyname(0), os.O_RDWR))
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def insist(self, key: str, said: str) -> None:
        """Types a key every second until these words come.

        Python and readline may miss a signal that comes just before they wait for input, until the next one.
        """
        self.type(key)
        self.await_(said, again=lambda: self.type(key))

    def await_(self, said: str, again: Callable[[], None] = lambda: None) -> str:
        """What was shown up to these words, and forgets it; calls `again` in each second without output."""
        end = time.monotonic() + PATIENCE
        while said not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self._file], [], [], 1)[0]:
                try:
                    self.seen += os.read(self._file, 65536).decode()
                except OSError:
                    raise AssertionError(f"it ended: {self.seen!r}") from None
            else:
                again()
        before, _, self.seen = self.seen.partition(said)
        return before

    def ended(self) -> int:
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._file)


@pytest.fixture
def terminal(talker: Talker, alone: dict[str, str]) -> Iterator[Terminal]:
    with closing(Terminal(alone, "--url", talker.url)) as found:
        found.await_(">>> ")
        yield found


def test_a_conversation_sends_its_earlier_turns(talker: Talker, terminal: Terminal) -> None:
    talker.answers += [["Hello ", "you"], ["Fine"], ["Who?"]]
    terminal.type("hi\n")
    terminal.await_("Hello you")
    terminal.await_(">>> ")
    terminal.type("how are you?\n")
    terminal.await_("Fine")
    terminal.await_(">>> ")
    assert [each["content"] for each in talker.asked[1]["messages"]] == ["hi", "Hello you", "how are you?"]
    terminal.type("/clear\n")
    terminal.await_("(forgotten)")
    terminal.await_(">>> ")
    terminal.type("/system Be a cat.\n")
    terminal.await_("(noted)")
    terminal.await_(">>> ")
    terminal.type('"""one\n')
    terminal.await_("... ")
    terminal.type('two"""\n')
    terminal.await_("Who?")
    terminal.await_(">>> ")
    assert talker.asked[2]["messages"] == [
        {"role": "system", "content": "Be a cat."},
        {"role": "user", "content": "one\ntwo"},
    ]
    terminal.type("/bye\n")
    assert terminal.ended() == 0


def test_ctrl_c_stops_the_answer_and_not_the_chat(talker: Talker, terminal: Terminal) -> None:
    never = threading.Event()
    talker.answers += [["A long ", never], ["Next"]]
    terminal.type("hi\n")
    terminal.await_("A long ")
    terminal.insist("\x03", "(stopped)")
    terminal.await_(">>> ")
    # The server is told, so that it stops computing.
    assert talker.left.wait(PATIENCE)
    terminal.type("go on\n")
    terminal.await_("Next")
    assert [each["content"] for each in talker.asked[1]["messages"]] == ["hi", "A long ", "go on"]
    terminal.await_(">>> ")
    terminal.type("half a line")
    terminal.await_("half a line")
    terminal.insist("\x03", "Ctrl-D or /bye ends the chat")
    terminal.await_(">>> ")
    terminal.type("\x04")
    assert terminal.ended() == 0
    assert len(talker.asked) == 2


def test_thoughts_are_dim_and_no_answer_steers_the_terminal(talker: Talker, terminal: Terminal) -> None:
    talker.answers.append([("reasoning", "let me see"), "\x1b]0;title\x07so\x1b[2J"])
    terminal.type("hi\n")
    terminal.await_("\x1b[2mlet me see\x1b[22m")
    assert terminal.await_(">>> ").replace("\r", "").startswith("\n\n]0;titleso[2J\n")


def test_a_question_that_is_refused_is_forgotten(talker: Talker, terminal: Terminal) -> None:
    talker.status = 400
    terminal.type("too much\n")
    terminal.await_("dgx-vllm: the server answers 400: too long for me")
    terminal.await_(">>> ")
    talker.status = 200
    talker.answers.append(["Fine"])
    terminal.type("less\n")
    terminal.await_("Fine")
    assert [each["content"] for each in talker.asked[1]["messages"]] == ["less"]


def test_a_limit_is_named(talker: Talker, terminal: Terminal) -> None:
    talker.reason = "length"
    talker.answers.append(["and so"])
    terminal.type("hi\n")
    terminal.await_("(the answer was cut off at the token limit)")
