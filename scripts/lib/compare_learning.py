"""Compares the summary.json of runs of `nudge replay`: the corrected run first, then controls.

Prints base, adapter and controls on the held-out questions. Exits with 1 unless the adapter gained,
and every control gained clearly less: at least HITS fewer of the questions right, and LIKELIHOOD
times the negative log-likelihood.
"""

import json
import pathlib
import sys

# One question of 20 is 5 %; over seeds the share moves by some 10 %.
HITS = 30
LIKELIHOOD = 1.5


def read(path):
    """{"nll", "style", "hits"}: (base, adapter) of each; shares in percent."""
    summary = json.loads(pathlib.Path(path).read_text())
    try:
        scores = [summary["held_out"][who] for who in ("base", "adapter")]
        return {"nll": tuple(score["nll_per_token"] for score in scores),
                "style": tuple(100 * score["style_rate"] for score in scores),
                "hits": tuple(100 * score["hit_rate"] for score in scores)}
    except (KeyError, TypeError):
        note = summary.get("held_out_note") or "not measured"
        sys.exit(f"{path}: no held-out scores of base and adapter: {note}")


def main():
    corrected, *controls = [read(path) for path in sys.argv[1:]]
    rows = [("base", {name: values[0] for name, values in corrected.items()}),
            ("adapter", {name: values[1] for name, values in corrected.items()})]
    rows += [(pathlib.Path(path).parent.name, {name: values[1] for name, values in control.items()})
             for path, control in zip(sys.argv[2:], controls)]
    print(f"  {'':20} {'NLL, nats/token':>16} {'in style':>10} {'style and fact':>16}")
    for name, row in rows:
        print(f"  {name:20} {row['nll']:16.3f} {row['style']:8.0f} % {row['hits']:14.0f} %")
    base, adapter = rows[0][1], rows[1][1]
    faults = []
    if adapter["hits"] < base["hits"] + HITS or adapter["nll"] * LIKELIHOOD > base["nll"]:
        faults.append("the adapter gained too little over the base")
    for name, control in rows[2:]:
        if control["hits"] > adapter["hits"] - HITS:
            faults.append(f"{name} answers as many questions rightly, within {HITS} %")
        if control["nll"] < adapter["nll"] * LIKELIHOOD:
            faults.append(f"{name} has the same likelihood, within a factor of {LIKELIHOOD}")
        share = (base["nll"] - control["nll"]) / (base["nll"] - adapter["nll"])
        print(f"  {name}: {share:.0%} of the adapter's gain in NLL (the frame of the answers is in "
              f"both), {control['nll'] / adapter['nll']:.1f} times its NLL")
    if faults:
        sys.exit("does not hold: " + "; ".join(faults))
    print("holds: the controls learn the frame, not the facts")


if __name__ == "__main__":
    main()
