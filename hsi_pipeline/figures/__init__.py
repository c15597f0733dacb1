"""Figures of a class map and of how good it is, for reports and for papers.

Each function returns a matplotlib figure without a title: what it shows is said around it. Class
names are drawn as they stand, and a name or number stands beside every colour.
"""

from hsi_pipeline.figures.charts import areas_figure as areas_figure
from hsi_pipeline.figures.charts import confusion_figure as confusion_figure
from hsi_pipeline.figures.charts import reliability_figure as reliability_figure
from hsi_pipeline.figures.charts import training_figure as training_figure
from hsi_pipeline.figures.drawing import as_png as as_png
from hsi_pipeline.figures.drawing import as_svg as as_svg
from hsi_pipeline.figures.maps import AMOUNTS as AMOUNTS
from hsi_pipeline.figures.maps import OUTSIDE as OUTSIDE
from hsi_pipeline.figures.maps import Frame as Frame
from hsi_pipeline.figures.maps import frame_of as frame_of
from hsi_pipeline.figures.maps import layer_figure as layer_figure
from hsi_pipeline.figures.maps import length_text as length_text
from hsi_pipeline.figures.maps import map_figure as map_figure
from hsi_pipeline.figures.maps import picture_figure as picture_figure
from hsi_pipeline.figures.maps import round_length as round_length
from hsi_pipeline.figures.spectra import Spectrum as Spectrum
from hsi_pipeline.figures.spectra import spectra_figure as spectra_figure
