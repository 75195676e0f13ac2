// How many threads the kernels use.
#include "threads.h"

#include "simd.h"

// -> how many it was before
int set_threads(int count) {
    int previous = max_threads();
#if defined(_OPENMP)
    if (count > 0) omp_set_num_threads(count);
#endif
    return previous;
}
