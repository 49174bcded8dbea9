"""The study of docs/study.md: do the papers' phenomena show on the demo, and what explains them?

`plan.yaml` says what is run, `plan` reads it, `commands` turns it into commands of the protocols, and `side_by_side`
runs them. `results` collects what they measured, `statistics` compares methods, `explanations` measures the final
prompts, `claims` compares the papers' claims with the figures, and `report` writes tables and figures.
"""
