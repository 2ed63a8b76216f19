"""Ask the model: can a fast shutdown of PostgreSQL 18 wait for ever, and how does it come to that?

    python examples/why_does_shutdown_hang.py

Prints the shortest run into the hang (finding F01), which processes are left in the end, and that
the repaired model has no such run.
"""

from pglife_spec import CONFIGS, check_property, explore, machine

QUESTION = "every_fast_shutdown_ends"


def main() -> None:
    prop = next(p for p in machine().properties if p.name == QUESTION)
    print(prop.doc)
    found = explore(machine(), CONFIGS["tiny-18"])
    lasso = check_property(found, prop).lasso
    assert lasso is not None
    for action in lasso.actions:
        print("  ", action)
    end = lasso.moments[-1].state
    children = ("startup", "checkpointer", "bgwriter", "walwriter")
    left = [f"{name} ({end[name].value})" for name in children if end[name].name != "ABSENT"]
    print(f"idle for ever in {end['pmState'].name}; left: {', '.join(left)}")
    repaired = explore(machine(), CONFIGS["tiny-18-repaired"])
    print("repaired:", "it ends" if check_property(repaired, prop).holds else "it hangs")


if __name__ == "__main__":
    main()
