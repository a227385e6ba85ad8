"""Generated command lines for `microgpt train`, right and wrong: flags, then one to three overrides."""

from hydra import compose, initialize_config_dir
from hypothesis import strategies as st
from omegaconf import OmegaConf

from microgpt.app import config_path

Strategy = st.SearchStrategy[str]
EXPERIMENTS = ("experiment=original", "experiment=compute_tuning")  # others train hundreds of runs
ELSEWHERE = (
    "paths",
    "tracking",
    "hydra",
)
HYDRA = (
    *("hydra", "hydra.verbose", "hydra.output_subdir", "hydra.mode", "hydra.run"),
    *("hydra.job.chdir", "hydra.job.env_set", "hydra.job.name", "hydra.job.id", "hydra.job.config"),
    *("hydra.callbacks", "hydra.searchpath", "hydra.help"),
    *("hydra.job_logging", "hydra.hydra_logging", "hydra.overrides.task", "hydra.runtime.choices"),
    *("hydra.sweeper", "hydra.sweeper._target_", "hydra.sweeper.arms", "hydra.sweeper.zip"),
    *("hydra.sweeper.params", "hydra.sweeper.ablation", "hydra.launcher", "hydra/sweeper"),
    *("hydra/launcher", "hydra/job_logging", "hydra/help", "hydra/output"),
)
NO_KEYS = ("", ".", "..", "a.b", "lr", "optimzer", "paths", "paths.outputs.x", "tracking", "seed.x")
SUFFIXES = (".x", "._target_", "@a", ".", "[0]", "/x", ":a")
SIGNS = ("", "", "", "+", "++", "~")
NUMBERS = ("0", "1", "2", "3", "-1", "0.5", "1e-3", "nan", "-inf", "1e999", "0x10", "1_0", "007")
TEXTS = (
    *(
        "",
        "''",
        '""',
        "abc",
        "null",
        "true",
        "False",
        "no",
        "???",
        "~",
        "a b",
        "'a b'",
        "a:b",
        "a=b",
    ),
    *(
        "'",
        '"',
        "'a\"",
        "\\",
        "\\'",
        "$",
        "${",
        "}",
        "@",
        "%",
        "#",
        "a==b",
        ",",
        "1,",
        ",1",
        "x" * 5000,
    ),
    *(
        "\x00",
        "a\x00b",
        "\n",
        "\t1",
        "é",
        "\u2028",
        "\ud800",
        "\U0001f469\u200d\U0001f467",
        "\ufeff1",
    ),
)
SHAPES = (
    *(
        "{}",
        "[]",
        "{a:1}",
        "{a:{b:1}}",
        "[1,[2]]",
        "[{a:1}]",
        "{a:[1]}",
        "{1:2}",
        "{a:1",
        "[1",
        "[a b]",
    ),
    *("[" * 300 + "]" * 300, "{_target_:abc}", "{_target_:builtins.dict}", "{_partial_:true}"),
)
SWEEPS = (
    *("1,2", "1,1", "0,01", "a,b", "choice(1,2)", "choice()", "choice(1)", "range(0)", "range(3)"),
    *(
        "range(1,9,0)",
        "range(3,1)",
        "range(1,2,0.5)",
        "range(1000000000)",
        "interval(0,1)",
        "glob(*)",
    ),
    *(
        "interval(1)",
        "glob(zzz*)",
        "glob([a*,r*],exclude=[r*])",
        "shuffle(1,2)",
        "shuffle(range(2))",
    ),
    *("sort(2,1)", "sort([2,1])", "tag(a,choice(1,2))", "tag(a,interval(0,1))", "nope(1)"),
)
CASTS = (
    *(
        "int(3)",
        "int(x)",
        "float(1)",
        "str(1)",
        "bool(x)",
        "bool(1)",
        "json_str({a:1})",
        "int([1,x])",
    ),
    *("extend_list(1)", "int(1,2)", "float(choice(1,2))", "int(null)", "str({a:1})", "range(a,b)"),
)
LINKS = (
    *(
        "${seed}",
        "${nothing}",
        "${oc.env:NOPE,null}",
        "${oc.env:NOPE}",
        "${oc.env:THERE}",
        "${now:%Y}",
    ),
    *(
        "${token:}",
        "${below:x}",
        "${oc.create:{a:1}}",
        "${oc.select:seed}",
        "${..}",
        "${oc.decode:'['}",
    ),
    *(
        "${.seed}",
        "${seed",
        "${oc.dict.keys:model}",
        "${model}",
        "${hydra:}",
        "${hydra:runtime.cwd}",
    ),
    *("${hydra.job.num}", "${python_version:}", "${oc.deprecated:seed}", "${nope:1}", "a${seed}b"),
    *("${${seed}}", "${oc.env:}", "${trainer.num_steps}", "${oc.decode:1}"),
)
TARGETS = (
    *(
        "abc",
        "a.b",
        "builtins.int",
        "builtins.dict",
        "math.pi",
        "os.system",
        "json",
        "glob(*)",
        "..",
        "a.",
    ),
    *("microgpt.core.optim.adam.Adam", "microgpt.core.nope.X", "datetime.datetime"),
)
FLAGS = (
    *("", "", "", "-m", "-m", "--cfg job", "--cfg all --resolve", "--cfg job -p model", "--info"),
    *("-p model", "--config-name nope"),
)


def options() -> list[str]:
    """Every option, as `model/norm=layernorm`, but of experiments two."""
    files = [file.relative_to(config_path()) for file in config_path().glob("*/**/*.yaml")]
    chosen = sorted(f"{file.parent.as_posix()}={file.stem}" for file in files)
    others = ("hydra", "tracking", "data=makemore", "experiment")
    return [*EXPERIMENTS, *(each for each in chosen if not each.startswith(others))]


def keys() -> list[str]:
    """Every key of the default configuration, at any depth."""
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        config = OmegaConf.to_container(compose("train"))
    found, waiting = [], [("", config)]
    while waiting:
        parent, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{parent}.{key}".lstrip("."), each) for key, each in value.items()]
        found.append(parent)
    return sorted(key for key in found if key and key.partition(".")[0] not in ELSEWHERE)


OPTIONS, KEYS = options(), keys()
GROUPS = sorted({each.partition("=")[0] for each in OPTIONS})
key: Strategy = st.one_of(
    *map(st.sampled_from, (KEYS, GROUPS, HYDRA, NO_KEYS)),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(SUFFIXES)).map("".join),
    st.text(max_size=6),
)
plain: Strategy = st.sampled_from([*NUMBERS, *TEXTS])
value: Strategy = st.one_of(
    plain,
    st.sampled_from([*SHAPES, *SWEEPS, *CASTS, *LINKS]),
    st.sampled_from([each.partition("=")[2] for each in OPTIONS]),
    st.text(max_size=8),
    st.text("'\"\\,=~(){}[]$:@ a1.", max_size=8),
    st.lists(plain, min_size=2, max_size=3).map(",".join),
    st.lists(plain, max_size=2).map(lambda values: f"[{','.join(values)}]"),
)
target: Strategy = st.tuples(
    st.sampled_from([each for each in KEYS if each.endswith("_target_")]),
    st.sampled_from(TARGETS),
).map("=".join)
override: Strategy = st.one_of(
    st.tuples(st.sampled_from(SIGNS), key, st.just("="), value).map("".join),
    st.tuples(st.sampled_from(KEYS), value).map("=".join),
    st.sampled_from(OPTIONS),
    target,
    st.tuples(st.sampled_from(SIGNS), key).map("".join),
    st.text(min_size=1, max_size=10),
)
command_lines: st.SearchStrategy[list[str]] = st.builds(
    lambda flags, words: [*flags.split(), *words],
    st.sampled_from(FLAGS),
    st.lists(override, min_size=1, max_size=3),
)
