pytest_plugins = ["pglife_conformance.plugin"]
