# The libraries that Trunkline stands on, all packaged by the distribution.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(NGHTTP2 REQUIRED IMPORTED_TARGET libnghttp2>=1.52)
pkg_check_modules(GNUTLS REQUIRED IMPORTED_TARGET gnutls>=3.7)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp>=2.5)

# Of the load generator; it comes without a pkg-config file.
find_path(HTTP_PARSER_INCLUDE_DIR http_parser.h)
find_library(HTTP_PARSER_LIBRARY http_parser)
if(TRUNKLINE_TESTS AND NOT (HTTP_PARSER_INCLUDE_DIR AND HTTP_PARSER_LIBRARY))
  message(FATAL_ERROR "http-parser is missing (Debian: libhttp-parser-dev)")
endif()
add_library(HttpParser::HttpParser INTERFACE IMPORTED)
target_include_directories(HttpParser::HttpParser INTERFACE ${HTTP_PARSER_INCLUDE_DIR})
target_link_libraries(HttpParser::HttpParser INTERFACE ${HTTP_PARSER_LIBRARY})

# Distributions backport limits into nghttp2 without raising its version number: ask for the symbols themselves.
include(CheckSymbolExists)
set(CMAKE_REQUIRED_LIBRARIES PkgConfig::NGHTTP2)
check_symbol_exists(nghttp2_option_set_stream_reset_rate_limit nghttp2/nghttp2.h HAVE_NGHTTP2_STREAM_RESET_RATE_LIMIT)
check_symbol_exists(nghttp2_option_set_max_outbound_queue_size nghttp2/nghttp2.h HAVE_NGHTTP2_MAX_OUTBOUND_QUEUE_SIZE)
unset(CMAKE_REQUIRED_LIBRARIES)
