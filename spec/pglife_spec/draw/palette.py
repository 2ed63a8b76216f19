"""The colours of all pictures, and what each stands for."""

from pglife_spec.graphs.lives import Role

TEXT = "#1b1f24"
SOFT = "#57606a"
INK = {
    Role.NORMAL: "#14507a",
    Role.OTHER: "#6b7480",
    Role.CRASH: "#b3261e",
    Role.FINDING: "#8a3ffc",
}
FILL = {
    Role.NORMAL: "#e3f0fa",
    Role.OTHER: "#f1f3f5",
    Role.CRASH: "#fbe9e7",
    Role.FINDING: "#f3ebff",
}
WIDTH = {Role.NORMAL: 2.4, Role.OTHER: 1.3, Role.CRASH: 1.3, Role.FINDING: 1.8}
DASH = {Role.NORMAL: "", Role.OTHER: "", Role.CRASH: "", Role.FINDING: "5 3"}
MEANING = {
    Role.NORMAL: "normal life",
    Role.OTHER: "also without a crash",
    Role.CRASH: "after a crash, or immediate shutdown",
    Role.FINDING: "a defect: the repaired model has no such step",
}
