import sys

import six

print("six", six.__version__, "on", sys.version.split()[0])
