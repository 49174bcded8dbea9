"""Write docs/sharpness.md from the docstrings of the rules: `python scripts/make_sharpness_page.py`."""

import dataclasses
import inspect
import re
from pathlib import Path

from hf_sharp_prompt.objectives import Objective, sharpness_aware_names
from hf_sharp_prompt.sharpness import SharpnessRule


PAGE = Path(__file__).parents[1] / "docs" / "sharpness.md"

HEAD = """# Sharpness rules

Made by `python scripts/make_sharpness_page.py` from the rules' docstrings; edit those.

`w` all trainable parameters as one flat vector, `g = ∇L(w)` over one optimizer step's whole batch, `u(v) = v / ‖v‖`,
`g(ε) = ∇L(w + ε)`; `d` is what the optimizer receives as the gradient. A rule is chosen by name: in the Trainer with
`SharpPromptTrainingArguments(sharpness="sam", sharpness_args={"rho": 0.05})`, in your own loop with
`SharpnessAware(sharpness.create("sam", rho=0.05), model)`. `saf` and `mesa` change what is minimised
rather than the direction: the Trainer takes their names like a rule's, and in your own loop
`hf_sharp_prompt.objectives.ObjectiveSum` adds their term to the loss.

A rule is applied to a step's whole batch, however many micro-batches or processes share it. Perturbations per
micro-batch or per process, the m-sharpness of Foret et al. (§4.1), are another method: set `m_sharpness` to
`"micro_batch"` or `"process"`, in the Trainer's arguments or in `SharpnessAware`. The rule then runs on each part by
itself, with separate noise if it draws any, and the step follows the mean of the directions, weighted by the parts'
numbers of samples. The rule has one state: every part starts from it, and afterwards it is the mean of the parts'
states.

"""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    members = dict(SharpnessRule.registry) | {name: Objective.registry[name] for name in sharpness_aware_names()}
    rules = [members[name] for name in sorted(members)]
    rows = ["| name | what it does | gradient evaluations per step | when to choose it |", "|---|---|---|---|"]
    for rule in rules:
        sections = read_docstring(rule)
        cost = sections["Cost"].removesuffix(".").replace(" gradient evaluations per step", "")
        cost = cost.replace(" gradient evaluation per step", "")
        rows.append(f"| [`{rule.name}`](#{rule.name}) | {sections['summary']} | {cost} | {sections['When']} |")
    return HEAD + "\n".join(rows) + "\n" + "".join(map(section, rules))


def section(rule: type[SharpnessRule | Objective]) -> str:
    sections = read_docstring(rule)
    text = f"\n## {rule.name}\n\n{sections['summary']}\n\n{sections['equation']}\n"
    fields = dataclasses.fields(rule)  # type: ignore[arg-type]  # members of a registry are dataclasses
    if fields:
        text += "\n| hyperparameter | default | |\n|---|---|---|\n"
        meanings = dict(re.findall(r"^(\w+): (.*?)(?=^\w+: |\Z)", sections["Args"], re.DOTALL | re.MULTILINE))
        for field in fields:
            text += f"| `{field.name}` | {field.default} | {' '.join(meanings[field.name].split())} |\n"
    for title in ("Reference", "Related"):
        text += f"\n{title}: {' '.join(sections[title].split())}\n" if title in sections else ""
    return text


def read_docstring(rule: type[SharpnessRule | Objective]) -> dict[str, str]:
    """Split a rule's docstring into its first line, the equation and the titled sections."""
    head, *rest = re.split(r"^(\w+):\n", inspect.getdoc(rule) or "", flags=re.MULTILINE)
    summary, equation = head.split("\n", 1)
    sections = {"summary": summary, "equation": equation.strip()}
    for title, body in zip(rest[::2], rest[1::2]):
        sections[title] = inspect.cleandoc("    " + body.lstrip()) if title == "Args" else " ".join(body.split())
    if "Args" in sections:
        sections["Args"] = "\n".join(line[4:] if line.startswith("    ") else line for line in rest[1].splitlines())
    return sections


if __name__ == "__main__":
    main()
