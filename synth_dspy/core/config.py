"""All settings, as frozen models that TOML files and flags both parse into.

Precedence: defaults < TOML (`--config FILE`) < flags. Keys and other secrets come from the environment only and
never enter a configuration. A task's own parameters are read from the signature of its function without importing
it, so that `--help` stays quick.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from synth_dspy.core.addresses import refuse_credentials
from synth_dspy.core.database_url import absolute_url
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io import reading
from synth_dspy.core.printable import printable_name
from synth_dspy.core.s3.address import is_address
from synth_dspy.core.validation import describe_error

DatabaseUrl = Annotated[str, AfterValidator(absolute_url)]
"""A database URL. The path of a database file is made absolute, so that a run does not depend on the current folder."""


def _executor(address: str) -> str:
    if not re.fullmatch(r"local|ray|ray://[^/\s:@]+:\d+", address):
        raise ValueError("it should be local, ray, or ray://HOST:PORT (the port of a cluster's client server is 10001)")
    return address


ExecutorAddress = Annotated[str, AfterValidator(_executor)]
"""Where model calls are made: in this process, or by the workers of a Ray cluster."""

PARAMETER_TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "Path": Path,
    "str | None": str | None,
    "int | None": int | None,
    "float | None": float | None,
    "Path | None": Path | None,
    "DatabaseUrl": DatabaseUrl,
    "DatabaseUrl | None": DatabaseUrl | None,
}

_KEY_NAME = re.compile(
    r"(api|access|secret|subscription)[-_]?key(?![-_]?name)|authorization|passw|secret|(access|auth|session|bearer)[-_]?token",
    re.IGNORECASE,
)

_ARM_NAME = re.compile(r"\w[\w.+-]*")
"""Names of arms made elsewhere, which become names of folders."""

MAX_REPLY_MB = 8.0
"""Default for the longest reply, in MB (10^6 bytes)."""
Config = TypeVar("Config", bound="CompileConfig")

FROM_ANSWERS = ("sft", "dpo", "orpo", "kto", "grpo", "rloo", "online_dpo")
"""Training methods that learn from answers."""
METHODS = (*FROM_ANSWERS, "cpt")
"""Training methods."""
WITHOUT_PPO = (
    "There is no ppo: TRL, which trains here, has removed it; take rloo or grpo, which reward sampled answers as PPO "
    "does, without its value model."
)


class Settings(BaseModel):
    """Base of all settings: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Models(Settings):
    """One model string per role: `embedded/<name or path>`, or anything that dspy.LM takes."""

    student: str = "embedded/smollm2-135m-instruct"
    """The model to be improved; every arm of the report runs on it, but for those of `compare` and of `--arm`."""
    compare: tuple[str, ...] = ()
    """Further models, which get the same arms: those that tune prompts, and for embedded models those that tune weights
    too. Options and address of one: `[models.options."openai/name"]`."""
    teacher: str = "embedded/smollm2-135m-instruct"
    """The model that writes training data."""
    judge: str = "reference"
    """`reference` (calibrated on human verdicts, uses no model), or a model string for the factuality judge."""
    embedder: str = "embedded/all-minilm-l6-v2"
    """The model that embeds passages and questions."""
    api_base: str | None = None
    """Address of an OpenAI-compatible server, for the roles whose model is not embedded."""
    allow_http: bool = False
    """Send keys over http:// to other machines too, where everyone on the way can read them."""
    max_reply_mb: float = Field(default=MAX_REPLY_MB, gt=0, le=1024)
    """Longest reply that is read from a server, in MB (10^6 bytes); a longer one counts as a failed attempt."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Further dspy.LM arguments by role, for example `[models.options.teacher] temperature = 0.7`, or by the model
    string of a compared model."""

    @field_validator("options")
    @classmethod
    def _options_by_role(cls, options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        unknown = sorted(key for key in set(options) - {"student", "teacher", "judge"} if "/" not in key)
        if unknown:
            raise ValueError(f"{unknown[0]} is not a role; the roles with options are student, teacher and judge")
        if _holds_key(options):
            raise ValueError("a configuration must not contain a key; name its environment variable with api_key_name")
        for role_options in options.values():
            address = role_options.get("api_base")
            refuse_credentials(address if isinstance(address, str) else None)
        return options

    _api_base_without_credentials = field_validator("api_base")(refuse_credentials)


class Synthesis(Settings):
    """How much training data is written, and from what."""

    candidates: int = Field(default=32, ge=0)
    """Candidates to generate before filtering, spread evenly over the training documents; 0 turns synthesis off."""
    train_on: Literal["all", "gold", "synthetic"] = "all"
    """Rows the optimizers see: `gold` (human-labelled), `synthetic`, or `all`."""


class Splits(Settings):
    """How labelled questions are divided into those that are learned from and those that are scored."""

    folds: int | None = Field(default=None, ge=1, le=100)
    """Cross-fitting: every labelled question is held out once, by compiling each arm so many times, each time without
    one part of the groups, and once more on all; 1: a single split. By default, where a
    single split would hold out few: the most of 5, 3 and 2 that are expected to take 15 minutes, else the fewest if
    the time allows."""


class Evaluation(Settings):
    """What is scored."""

    arms: tuple[str, ...] = ()
    """Arms to run, such as `bootstrap sft dpo`; the baseline always runs. Empty: the task's default arms, without those
    that train weights if the student is hosted."""
    held_out: int | None = Field(default=None, ge=1)
    """At most this many held-out questions, spread evenly over the held-out documents; by default all of them."""
    validation: int = Field(default=32, ge=1)
    """At most this many development questions: prompts are chosen on them, served weights are checked on them."""
    with_demonstrations: int = Field(default=0, ge=0)
    """At most this many held-out questions are also put to tuned models with demonstrations in the prompt; by default
    none, since a few would show nothing."""


class SageMaker(Settings):
    """Training jobs of Amazon SageMaker (docs/aws.md)."""

    instance: str = Field(default="ml.g5.xlarge", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")
    """Type of the one machine that a job gets."""
    image: str | None = None
    """Address of a container image with Python 3.11 or newer and torch; by default AWS's for Hugging Face."""
    spot: bool = True
    """Use spot instances, which cost less and may be taken away: the training goes on from its last checkpoint."""
    max_hours: float = Field(default=4.0, gt=0, le=672)
    """A job that has run so long is stopped."""
    wait_hours: float = Field(default=4.0, ge=0, le=600)
    """How long a job may wait for spot instances, beside `max_hours`."""
    volume_gb: int = Field(default=50, ge=1)
    """Size of the machine's disk, which holds the base, the checkpoint and the merged model."""
    price: float | None = Field(default=None, ge=0)
    """On-demand US dollars an hour of the instance in your region; by default AWS's list of us-east-1, where known."""
    subnets: tuple[str, ...] = ()
    """Subnets of your own network, if jobs have to run there; it needs access to S3 and to a package index."""
    security_groups: tuple[str, ...] = ()
    """Security groups in it."""


class Training(Settings):
    """Training settings; they override those of the recipes."""

    backend: Literal["local", "sagemaker"] = "local"
    """Where weights are trained: in a process here, or in training jobs of Amazon SageMaker, which need --aws.s3 and
    --aws.role."""
    sagemaker: SageMaker = SageMaker()

    minutes: float = Field(default=10.0, gt=0)
    """Time limit of each training in minutes. Estimated before it starts: it uses as many rows as fit."""
    feedback: Path | None = None
    """People's feedback, as JSON lines: the program's inputs, with `chosen` and `rejected` answers (for dpo and orpo),
    or with one `answer` that is `good`: true or false (for kto; sft learns the good ones)."""
    questions: Path | None = None
    """Questions without answers, as JSON lines with the program's inputs: the judge model compares the student's own
    answers to them (for dpo, orpo and kto), or rewards them (for grpo, rloo and online_dpo)."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of the recipe and the training by method, for example `[training.options.sft] examples = 200,
    epochs = 2`."""

    @field_validator("options")
    @classmethod
    def _options_by_method(cls, options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if "ppo" in options:
            raise ValueError(WITHOUT_PPO)
        unknown = sorted(set(options) - set(METHODS))
        if unknown:
            raise ValueError(f"{unknown[0]} is not a training method; the methods are {', '.join(METHODS)}")
        return options


class Retention(Settings):
    """Checks of tuned models outside the task, which measure forgetting."""

    prompts: int = Field(default=4, ge=0)
    """At most this many prompts with checkable instructions; 0 turns the check off."""
    ifeval: Path | None = None
    """IFEval's own prompts (JSON lines) instead of the bundled ones."""
    text: Path | None = None
    """A general text for perplexity instead of the bundled one."""


class Retrieval(Settings):
    """How passages are searched for. `--search retrieval` finds the first five for the documents at hand."""

    chunk_words: int = Field(default=40, ge=10, le=1000)
    """Most words of a chunk, the piece of a document that is searched for."""
    overlap: int = Field(default=0, ge=0)
    """How many of a chunk's words repeat the end of the chunk before; at most half of them."""
    chunks: int | None = Field(default=None, ge=1)
    """At most so many chunks are passages; by default as many as fit into the words."""
    lexical: float = Field(default=0.5, ge=0, le=1)
    """Weight of lexical search (BM25) against that of embeddings."""
    wording: float = Field(default=0.6, ge=0, le=1)
    """Weight of the task's own wording for a question, where it has one, against the question's; 0 searches without."""
    steps: Literal["auto", "on", "off"] = "auto"
    """Whether the model first writes what to search for, and chooses among the passages, where the task does not say;
    `auto`: where the student is hosted, or its name says that it has at least 3 billion parameters."""
    ef_search: int = Field(default=200, ge=10)
    """Candidates that a search of Chroma's HNSW graph keeps: more find more of the nearest, and take longer."""
    exact: int = Field(default=50_000, ge=0)
    """Up to so many chunks are compared one by one; of more, Chroma's HNSW graph gives the candidates."""
    chroma: str | None = None
    """Address of a Chroma server that keeps the chunks, such as http://127.0.0.1:8000; by default a folder does."""

    @field_validator("chroma")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        refuse_credentials(address)
        if address is not None and not re.fullmatch(r"https?://[^/\s]+/?", address):
            raise ValueError("it is not the address of a Chroma server, such as http://127.0.0.1:8000")
        return address

    @model_validator(mode="after")
    def _room_of_its_own(self) -> Retrieval:
        if 2 * self.overlap > self.chunk_words:
            raise ValueError(f"retrieval.overlap is {self.overlap}: at most half of chunk_words ({self.chunk_words})")
        return self


class Aws(Settings):
    """What AWS's services need; credentials and region come from the environment (docs/aws.md)."""

    s3: str | None = None
    """`s3://bucket/folder` for what services read and write there: requests and replies of batch jobs, trainings."""
    role: str | None = None
    """ARN of the role that a service takes to do so."""
    batch: bool = False
    """Make the teacher's calls in batch jobs of Bedrock, at batch prices (half of the usual ones for most models). A
    job takes minutes to hours, and at least 100 calls: give --concurrency 500."""

    @model_validator(mode="after")
    def _room_for_batches(self) -> Aws:
        if self.batch and not (self.s3 and self.role):
            raise ValueError("aws.batch needs aws.s3 and aws.role: where requests and replies lie, and who reads them")
        return self


class CompileConfig(Settings):
    """`python -m synth_dspy.compile <task>`."""

    models: Models = Models()
    synthesis: Synthesis = Synthesis()
    splits: Splits = Splits()
    evaluation: Evaluation = Evaluation()
    training: Training = Training()
    retention: Retention = Retention()
    retrieval: Retrieval = Retrieval()
    aws: Aws = Aws()
    arm: tuple[str, ...] = ()
    """Arms made elsewhere, NAME=WHERE each: the folder of a LoRA adapter (of PEFT) for the student or a compared model,
    the file or folder of a model, or a model string such as openai/my-model. The task's program is scored with it."""
    search: Literal["retrieval"] | None = None
    """`retrieval`: also find the best settings of retrieval on labelled questions that are not held out, as an arm."""
    words: int | None = Field(default=None, ge=30)
    """Number of words of passages in each prompt; by default the task's choice."""
    limit: int | None = Field(default=None, ge=3)
    """At most this many documents."""
    quick: bool = False
    """A smaller version of every stage, to see it work: at most 12 candidates, 8 held-out questions and 4 to select on,
    whatever is set for these; too few for a comparison. Without labels it implies --unreviewed."""
    unreviewed: bool = False
    """For documents without labels: score on the questions that the teacher proposes, although nobody has read them."""
    seed: int = 0
    """Seed of splits, sampling and prompt search."""
    concurrency: int = Field(default=16, ge=1)
    """Concurrent model calls; with Ray, of each worker."""
    executor: ExecutorAddress = "local"
    """Where model calls are made: `local` (in this process), `ray` (by workers on the Ray cluster that RAY_ADDRESS
    names, else on this machine), or `ray://HOST:PORT`. See docs/scale.md."""
    workers: int | None = Field(default=None, ge=1)
    """Workers on the Ray cluster; by default one for each of its machines, and two on this machine alone."""
    max_usd: float | None = Field(default=None, ge=0)
    """Stop once the calls and training jobs of the run, those of earlier starts included, have cost so many US
    dollars."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Stop after so many minutes; a resumed run gets as many anew."""
    runs: Path = Path("runs")
    """Folder that receives `<task>/<id>/`, relative to the workspace; of `s3://bucket/folder`, `runs` has a copy."""
    share: bool = False
    """Let your group read the run's folder; by default only you can."""

    @field_validator("arm")
    @classmethod
    def _named_arms(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        names = [arm.partition("=")[0] for arm in arms]
        for arm, name in zip(arms, names, strict=True):
            if not (_ARM_NAME.fullmatch(name) and arm.partition("=")[2]):
                raise ValueError(f"{arm!r} is not NAME=WHERE, such as mine=adapters/mine or mini=openai/gpt-5-mini")
            if names.count(name) > 1:
                raise ValueError(f"two arms are called {name}")
        return arms

    @model_validator(mode="after")
    def _options_have_models(self) -> CompileConfig:
        models = {*self.models.compare, *(arm.partition("=")[2] for arm in self.arm)}
        for key in self.models.options:
            if "/" in key and key not in models:
                raise ValueError(f"models.options has {key}, which is not one of the compared models")
        return self

    @model_validator(mode="after")
    def _room_for_jobs(self) -> CompileConfig:
        if self.training.backend == "sagemaker" and not (self.aws.s3 and self.aws.role):
            raise ValueError(
                "training.backend = sagemaker needs aws.s3 and aws.role: where rows and weights lie, and who reads them"
            )
        return self

    @property
    def runs_here(self) -> Path:
        """The folder of runs on this machine, absolute or relative to the workspace."""
        return Path("runs") if is_address(self.runs) else self.runs.expanduser()


def task_settings(path: Path) -> type[Settings]:
    """The settings model of a task file: one field for each parameter of its `@task` function.

    The file is parsed, not imported. Descriptions come from the docstring's `Args:` section.

    Raises:
        SetupError: the file cannot be read or is not Python, has no function decorated with `@task`, or a parameter
            whose type a flag cannot set or whose default is not a literal.
    """
    for node in _parsed(path).body:
        if isinstance(node, ast.FunctionDef) and any(_is_task(decorator) for decorator in node.decorator_list):
            break
    else:
        raise SetupError(f"{path} declares no task: it needs one function decorated with @task.")
    descriptions = _argument_descriptions(ast.get_docstring(node) or "")
    fields: dict[str, Any] = {}
    arguments = node.args.args + node.args.kwonlyargs
    defaults = [None] * (len(node.args.args) - len(node.args.defaults)) + node.args.defaults + node.args.kw_defaults
    for argument, default in zip(arguments, defaults, strict=True):
        annotation = ast.unparse(argument.annotation) if argument.annotation else "nothing"
        kind = _flag_type(argument.annotation)
        if kind is None:
            raise SetupError(
                f"{path}:{argument.lineno}: parameter {argument.arg!r} has type {annotation}; "
                f"a flag can be one of {', '.join(PARAMETER_TYPES)}, or a Literal of texts."
            )
        if default is None:
            raise SetupError(f"{path}:{argument.lineno}: parameter {argument.arg!r} needs a default.")
        if isinstance(default, ast.Call) and ast.unparse(default.func) in ("Path", "pathlib.Path"):
            default = default.args[0] if len(default.args) == 1 else default
        try:
            value = ast.literal_eval(default)
        except (ValueError, RecursionError) as error:
            raise SetupError(
                f"{path}:{argument.lineno}: the default of {argument.arg!r} is not a literal; write a string, a "
                "number, True, False or None."
            ) from error
        if annotation.startswith("Path") and value is not None:
            # A default is relative to the workspace, not to the current folder.
            value = path.resolve().parents[1] / Path(value).expanduser()
        description = Field(description=descriptions.get(argument.arg))
        fields[argument.arg] = (Annotated[kind, description], value)
    model: type[Settings] = create_model("TaskSettings", __base__=Settings, **fields)
    return model


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(reading.read_text(path, "The task"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise SetupError(f"The task {path} is not Python{line}: {getattr(error, 'msg', error)}.") from error


def compile_settings(path: Path) -> type[CompileConfig]:
    """`CompileConfig` with a field `task` for the parameters of the task in `path`."""
    task = task_settings(path)
    model: type[CompileConfig] = create_model(
        "TaskCompileConfig", __base__=CompileConfig, task=(task, Field(default_factory=task))
    )
    return model


def read_toml(path: Path, model: type[CompileConfig]) -> CompileConfig:
    """Read a TOML file into `model`.

    Raises:
        SetupError: the file is missing, is not TOML, or sets something that does not exist; names the key.
    """
    if not path.exists():
        raise SetupError(f"The configuration file {path} does not exist.")
    try:
        return model.model_validate(reading.read_toml(path, "The configuration file"))
    except ValidationError as error:
        raise SetupError(f"In the configuration file {path}, {describe_error(error, model)}") from error


def absolute(config: CompileConfig) -> CompileConfig:
    """The configuration with absolute paths, so that a run can be resumed and loaded from any folder."""
    sections: dict[str, Any] = {}
    for name in ("task", "training", "retention"):
        section = getattr(config, name, None)
        if section is not None:
            paths = {key: _resolved(value) for key, value in section if isinstance(value, Path)}
            sections[name] = section.model_copy(update=paths)
    sections["arm"] = tuple(map(_absolute_arm, config.arm))
    return config.model_copy(update=sections)


def _absolute_arm(arm: str) -> str:
    """An arm made elsewhere, with an absolute path if it is a file or a folder."""
    name, _, where = arm.partition("=")
    path = _resolved(Path(where))
    return f"{name}={path}" if where.startswith((".", "~", "/")) or path.exists() else arm


def _resolved(path: Path) -> Path:
    if is_address(path):
        return path
    try:
        return path.expanduser().resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, an unknown user's home
        raise SetupError(f"The path {str(path)[:200]!r} is not valid: {error}.") from error


def as_started(config: Config) -> Config:
    """A run's configuration as the run was started: one that was written before there was `retrieval` had no steps.

    They would change the run's prompts, and ask the model everything anew.
    """
    if "retrieval" in config.model_fields_set:
        return config
    return config.model_copy(update={"retrieval": config.retrieval.model_copy(update={"steps": "off"})})


def to_toml(config: CompileConfig) -> str:
    """The resolved configuration as TOML; reading it back gives an equal model.

    Raises:
        SetupError: a path in it is not UTF-8, which TOML cannot hold.
    """
    import tomli_w

    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    text = re.sub(r'"s3:/(?=[^/])', '"s3://', text)  # a `Path` has lost one slash
    try:
        text.encode()
    except UnicodeEncodeError as error:
        (line,) = text[text.rfind("\n", 0, error.start) + 1 :].splitlines()[:1]
        raise SetupError(f"The setting {printable_name(line)} is not UTF-8 text: rename the file or folder.") from None
    return text


def _holds_key(options: Any) -> bool:
    """Whether an option, at any depth, is named like a key or a password."""
    if not isinstance(options, dict):
        return isinstance(options, list) and any(map(_holds_key, options))
    return any(_KEY_NAME.search(name) or _holds_key(value) for name, value in options.items())


def _flag_type(annotation: ast.expr | None) -> Any:
    """The type that an annotation names, or None if a flag cannot have it."""
    match annotation:
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Constant(value=str(only))):
            return Literal[only]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=elements)):
            choices = tuple(each.value for each in elements if isinstance(each, ast.Constant))
            texts = len(choices) == len(elements) and all(isinstance(each, str) for each in choices)
            return Literal[choices] if texts else None
    return PARAMETER_TYPES.get(ast.unparse(annotation)) if annotation else None


def _is_task(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")) == "task"


def _argument_descriptions(docstring: str) -> dict[str, str]:
    descriptions: dict[str, str] = {}
    current = ""
    _, _, section = docstring.partition("Args:\n")
    for line in section.splitlines():
        if not line.startswith("    ") or not line.strip():
            break
        name, colon, text = line.strip().partition(": ")
        if colon and name.isidentifier() and not line.startswith("        "):
            current = name
            descriptions[current] = text
        elif current:
            descriptions[current] += " " + line.strip()
    return descriptions
