"""Land-cover maps and polygons from hyperspectral scenes.

    scene files -> scene/ -> cube -> datasets -> training -> checkpoint
    vector labels -> ground_truth ----^                        |
                     cube + model -> inference -> class map -> polygons -> publish/

Every box is a module of that name; `commands/` joins them, `cli` is the command line.
This file imports nothing, so that `hsi_pipeline.models` needs torch alone.
"""

__version__ = "0.1.0"
