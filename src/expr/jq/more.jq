# What jq defines and jaq leaves out, or does in another way. Definitions that come later stand before those of the same name.

def IN(s): any(s == .; .);
def IN(src; s): any(src == s; .);
def INDEX(stream; f): reduce stream as $row ({}; .[$row | f | tostring] = $row);
def INDEX(f): INDEX(.[]; f);
def JOIN($idx; idx_expr): [.[] | [., $idx[idx_expr]]];
def JOIN($idx; stream; idx_expr): stream | [., $idx[idx_expr]];
def JOIN($idx; stream; idx_expr; join_expr): stream | [., $idx[idx_expr]] | join_expr;
def ascii: [.] | implode;
def toarray: if isarray then . else [.] end;
def have_literal_numbers: true;
def have_decnum: true;
def date: todate;
def dateadd(u; n): . + n;
def datesub(u; n): . - n;
def nth($n): .[$n];
def nth(n; f): n as $n | if $n < 0 then error("nth doesn't support negative indices") else first(skip($n; f)) end;
def _limit($n; f): limit($n; f);
def limit($n; f): if $n < 0 then error("limit doesn't support negative count") else _limit($n; f) end;
def _skip($n; f): skip($n; f);
def skip($n; f): if $n < 0 then error("skip doesn't support negative count") else _skip($n; f) end;
def _flatten($depth): flatten($depth);
def flatten($depth): if $depth < 0 then error("flatten depth must not be negative") else _flatten($depth) end;

def join($separator): _join($separator);
def nan: _nan;
def infinite: _infinite;
def isnan: if isnumber then . < nan and nan < . else error("\(_told) number required") end;
def isinfinite: if isnumber then . == infinite or . == -infinite else error("\(_told) number required") end;
def isnormal: if isnumber then (. == 0 or isnan or isinfinite) | not else error("\(_told) number required") end;
def finites: select(isinfinite or isnan | not);
def normals: select(isnormal);
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def index($i): indices($i)[0];
def rindex($i): indices($i)[-1:][0];
def transpose: [range([.[] | length] | max // 0) as $i | [.[][$i]]];
def combinations: if length == 0 then [] else .[0][] as $x | (.[1:] | combinations) as $w | [$x] + $w end;
def combinations(n): . as $dot | [range(n)] | map($dot) | combinations;
def @json: tojson;
def toboolean:
  if isboolean then . elif . == "true" then true elif . == "false" then false
  else error("\(_told) cannot be parsed as a boolean") end;

# Texts.
def _text($what): if isstring then . else error($what) end;
def _utf8bytelength: utf8bytelength;
def utf8bytelength: if isstring then _utf8bytelength else error("\(_told) only strings have UTF-8 byte length") end;
def _trim: trim;
def trim: _text("trim input must be a string") | _trim;
def _ltrim: ltrim;
def ltrim: _text("trim input must be a string") | _ltrim;
def _rtrim: rtrim;
def rtrim: _text("trim input must be a string") | _rtrim;
def _startswith($x): startswith($x);
def startswith($x): if isstring and ($x | isstring) then _startswith($x) else error("startswith() requires string inputs") end;
def _endswith($x): endswith($x);
def endswith($x): if isstring and ($x | isstring) then _endswith($x) else error("endswith() requires string inputs") end;
def _ltrimstr($x): ltrimstr($x);
def ltrimstr($x): if startswith($x) then _ltrimstr($x) else . end;
def _rtrimstr($x): rtrimstr($x);
def rtrimstr($x): if endswith($x) then _rtrimstr($x) else . end;
def trimstr($x): ltrimstr($x) | rtrimstr($x);
def _strindices($x):
  if isstring | not then error("\(_told) cannot be searched, as it is not a string")
  elif $x | isstring | not then error($x | "\(_told) is not a string")
  else indices($x) end;

# Objects.
def _entry_key:
  if type == "object" then
    if has("key") then .key elif has("k") then .k elif has("name") then .name elif has("Name") then .Name
    elif has("K") then .K elif has("Key") then .Key else null end
  else error("Cannot index \(type) with \"key\"") end
  | if isstring then . else tojson end;
def _entry_value: if has("value") then .value elif has("v") then .v elif has("Value") then .Value elif has("V") then .V else null end;
def from_entries: reduce .[] as $x ({}; .[$x | _entry_key] = ($x | _entry_value));
def with_entries(f): to_entries | map(f) | from_entries;

# Paths.
def leaf_paths: paths(scalars);
def setpath($path; $new): _setpath($path; $new);
def delpaths($paths): _delpaths($paths);
def getpath($path):
  if ($path | length) > 10000 then error("Path too deep") else reduce $path[] as $p (.; .[$p]) end;
def del(f): delpaths([path(f)]);
def to_entries: [keys_unsorted[] as $k | {key: $k, value: .[$k]}];
def pick(f): . as $top | reduce path(f) as $p (null; setpath($p; $top | getpath($p)));
def tostream: path(def r: (.[]? | r), .; r) as $p | getpath($p) | reduce path(.[]?) as $q ([$p, .]; [$p + $q]);
def fromstream(f): {x: null, e: false} as $init
  | foreach f as $i ($init;
      if .e then $init else . end
      | if $i | length == 2 then .e = ($i[0] | length == 0) | setpath(["x"] + $i[0]; $i[1]) else .e = ($i[0] | length == 1) end;
      if .e then .x else empty end);
def truncate_stream(f): . as $n | null | f | if (.[0] | length) > $n then .[0] |= .[$n:] else empty end;

# Patterns. The pieces are joined at once: what is joined one by one is there in all its lengths.
def match($re; $flags): _matches($re; $flags)[];
def match($re): if $re | isarray then match($re[0]; $re[1]) else match($re; null) end;
def test($re; $flags): _matches($re; $flags) | length > 0;
def test($re): if $re | isarray then test($re[0]; $re[1]) else test($re; null) end;
def _captured: reduce (.captures[] | select(.name != null)) as $c ({}; .[$c.name] = $c.string);
def capture($re; $flags): match($re; $flags) | _captured;
def capture($re): match($re) | _captured;
def scan($re; $flags):
  match($re; "g" + $flags) | if .captures | length > 0 then [.captures[].string] else .string end;
def scan($re): if $re | isarray then scan($re[0]; $re[1]) else scan($re; null) end;
def split($re; $flags): [_pieces($re; "g" + $flags)[] | strings];
def splits($re; $flags): split($re; $flags)[];
def splits($re): splits($re; null);
def sub($re; f; $flags):
  [_pieces($re; $flags)[] | if isobject then [_captured | f] else . end] as $parts
  | ([$parts[] | select(isarray) | length] | .[0] // 1) as $count
  | range($count) as $k
  | [$parts[] | if isarray then .[$k] | if isstring then . else error("\(_told) cannot be added to a string") end else . end]
  | join("");
def gsub($re; f; $flags): sub($re; f; "g" + $flags);
def sub($re; f): sub($re; f; "");
def gsub($re; f): sub($re; f; "g");

# Times. What is not given of a broken down time is zero.
def _strftime($f): strftime($f);
def strftime($f):
  _broken_down("strftime/1") | if $f | isstring then _strftime($f) else error("strftime/1 requires a string format") end;
def _strflocaltime($f): strflocaltime($f);
def strflocaltime($f):
  _broken_down("strflocaltime/1") | if $f | isstring then _strflocaltime($f) else error("strflocaltime/1 requires a string format") end;
def _mktime: mktime;
def mktime: _broken_down("mktime") | _mktime;

# Formats.
def @html: tostring | escape_html | split("&apos;") | join("&#39;");
def @urid: tostring | decode_uri;
def @base64d: tostring | decode_base64;
def _row(f): if isarray then . else error("\(_told) cannot be formatted as a row") end
  | [.[] | if isstring then f elif . == null then "" elif isnumber or isboolean then tojson
           else error("\(_told) is not valid in a row") end];
def @csv: _row("\"" + (split("\"") | join("\"\"")) + "\"") | join(",");
def @tsv:
  def escaped: split("\\") | join("\\\\") | split("\t") | join("\\t") | split("\n") | join("\\n") | split("\r") | join("\\r");
  _row(escaped) | join("\t");
