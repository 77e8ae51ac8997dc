/* trunkline-edge. */
#include "edge/edge.h"

int main(int argc, char **argv)
{
    return edge_run(argc, argv);
}
