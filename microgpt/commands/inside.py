"""`microgpt inspect`: a look inside."""

import json
from collections.abc import Sequence

from microgpt.commands.common import add_json, aside, name, outputs_folder, trust_in
from microgpt.terminal import Parser, add_trust

SHOWN = """Write a page about what a run's model does with a text: the probability and the loss of each next
character, the attention of each head, embeddings, activations, gradients, samples. Several runs are side by
side. The page needs no other file; it lies in outputs/inspect, and among the run's artifacts in MLflow."""


def inspect(words: Sequence[str]) -> None:
    """`microgpt inspect`."""
    parser = Parser("microgpt inspect", description=SHOWN)
    parser.add_argument("runs", metavar="RUN", type=name, nargs="+", help="one, or several")
    parser.add_argument("--prompt", help="the text; default: the first held-out document")
    parser.add_argument("--seed", type=int, default=1, help="of the samples")
    parser.add_argument("--uri", help="the store of a run that has no folder here")
    add_json(parser)
    add_trust(parser)
    options = parser.parse_args(words)
    from microgpt.ablation.inspect.inspect import inspect as write

    asked = options.prompt, options.seed, options.uri
    with aside(options.json):
        file = write(options.runs, *asked, outputs_folder(), trust_in(options))
    if options.json:
        print(json.dumps({"page": str(file)}))
