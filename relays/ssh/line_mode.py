"""stub"""


class LineMode: ...
