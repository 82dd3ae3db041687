# Prints the first endings as errors of the workflow. What closes a command of the workflow, or is part of its syntax,
# is escaped: a process chooses its name.
def text: gsub("%"; "%25") | gsub("\r"; "%0D") | gsub("\n"; "%0A");
def property: text | gsub(":"; "%3A") | gsub(","; "%2C");
def process: if . then " by \(.comm)[\(.pid)]" else "" end;

.[:$most][]
| "::error title=\(.path | property)::" +
  ("\(.local // "?") → \(.remote // "?")\(.actor // .owner | process): \(.cause)" | text)
