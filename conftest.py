pytest_plugins = ["pglife_conformance.pytest.plugin"]
