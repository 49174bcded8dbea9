"""What users write for themselves passes their type checker."""

from pathlib import Path

from mypy import api


HERE = Path(__file__).parent


def test_a_rule_an_objective_and_a_loss_of_a_users_own_type_check(tmp_path):
    """A user's editor would underline what CONTRIBUTING.md shows, or miss a wrong hyperparameter."""
    config = HERE / "mypy.ini"
    report, errors, code = api.run(
        ["--config-file", str(config), "--cache-dir", str(tmp_path), str(HERE / "own_rule.py")]
    )
    assert code == 0, report + errors
