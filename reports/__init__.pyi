from .folder import write_report as write_report
from .ranges import good_ranges as good_ranges
from .verdicts import Thresholds as Thresholds
from .verdicts import classify as classify
from .verdicts import classify_cells as classify_cells
from .verdicts import final_height as final_height
