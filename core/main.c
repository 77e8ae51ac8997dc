/* The program trunkline-core: the library's core with the handlers that come with it. */
#include "core/trunkline.h"

#include <stddef.h>

int main(int argc, char **argv)
{
    return trunkline_core_main(argc, argv, NULL, 0);
}
