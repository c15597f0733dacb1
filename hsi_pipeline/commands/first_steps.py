"""What the command line says to people who do not know yet what to ask."""

from hsi_pipeline import __version__

FIRST_STEPS = f"""\
hsi-pipeline {__version__}: land-cover maps and polygons from hyperspectral scenes.

See it work, on a sample scene (a minute on two free cores, no GPU needed):
  hsi-pipeline demo

Then your own scene, and polygons of known land cover:
  hsi-pipeline info scene.tif
  hsi-pipeline train scene.tif polygons.gpkg --label-column class_id --out model.safetensors
  hsi-pipeline classify scene.tif model.safetensors --out map.tif
  hsi-pipeline polygonize map.tif --out landcover.gpkg

Help:
  hsi-pipeline --help           all commands
  hsi-pipeline train --help     all options of one
  hsi-pipeline doctor           is all here that is needed?
  README.md and docs/ of the source explain the rest"""
"""Shown where no command is given."""
