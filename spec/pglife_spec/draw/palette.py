"""The colours of all pictures: dark on light, normal life blue, what only a crash does red."""

from pglife_spec.draw.graph import Role

TEXT = "#1b1f24"
INK = {Role.NORMAL: "#14507a", Role.OTHER: "#6b7480", Role.CRASH: "#b3261e"}
FILL = {Role.NORMAL: "#e3f0fa", Role.OTHER: "#f1f3f5", Role.CRASH: "#fbe9e7"}
WIDTH = {Role.NORMAL: 2.6, Role.OTHER: 1.3, Role.CRASH: 1.3}
SAID = {
    Role.NORMAL: "normal life",
    Role.OTHER: "also without a crash",
    Role.CRASH: "after a crash, or immediate shutdown",
}
