"""What pyproject.toml cannot say: wheels hold the sample scene and its workflow, for `demo`.

A checkout has them beside the package, where people look for them; an editable installation takes
them from there.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE = "hsi_pipeline"
SAMPLE = (
    "sample_data/README.md",
    "sample_data/classes.csv",
    "sample_data/scene.tif",
    "sample_data/test.gpkg",
    "sample_data/train.gpkg",
    "workflows/landcover.yaml",
)


class BuildWithSample(build_py):
    """Copies the sample into the package that is built."""

    def run(self) -> None:
        """Build the package, then add the sample."""
        super().run()
        if self.editable_mode:
            return
        for name in SAMPLE:
            target = Path(self.build_lib, PACKAGE, name)
            self.mkpath(str(target.parent))
            self.copy_file(name, str(target))

    def get_source_files(self) -> list[str]:
        """Return what source distributions hold."""
        return [*super().get_source_files(), *SAMPLE]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return what is installed."""
        built = [str(Path(self.build_lib, PACKAGE, name)) for name in SAMPLE]
        return [*super().get_outputs(include_bytecode), *built]


setup(cmdclass={"build_py": BuildWithSample})
